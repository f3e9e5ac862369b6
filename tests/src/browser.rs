//! Pages as a browser shows them.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use image::RgbImage;

/// Names under which Chromium is installed.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// What a browser made of a page.
#[derive(Debug)]
pub struct Visit {
    /// What the page, or the browser on its behalf, wrote to the console.
    pub console: Vec<String>,
    /// The picture of the page.
    pub picture: RgbImage,
}

impl Visit {
    /// Number of colours in the picture.
    pub fn colors(&self) -> usize {
        self.picture.pixels().collect::<std::collections::HashSet<_>>().len()
    }

    /// Pixels that have this colour within a few shades.
    pub fn count(&self, color: [u8; 3]) -> usize {
        let near = |pixel: &&image::Rgb<u8>| {
            pixel.0.iter().zip(color).all(|(&found, wanted)| found.abs_diff(wanted) <= 3)
        };
        self.picture.pixels().filter(near).count()
    }
}

/// A browser of this machine.
#[derive(Debug)]
pub struct Browser {
    program: &'static str,
}

impl Browser {
    /// Chromium; `None`, and says that `test` is skipped, where it is not installed.
    ///
    /// # Panics
    /// Panics where it is not installed and `FRESNEL_REQUIRE_BROWSER` is set.
    pub fn at_hand(test: &str) -> Option<Self> {
        let works = |program: &&str| {
            let mut command = Command::new(program);
            let command = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let found = PROGRAMS.into_iter().find(works);
        if found.is_none() {
            let required = std::env::var_os("FRESNEL_REQUIRE_BROWSER").is_some();
            assert!(!required, "{test}: FRESNEL_REQUIRE_BROWSER is set, but there is no Chromium");
            crate::say(&format!("{test}: skipped, Chromium is not installed"));
        }
        found.map(|program| Self { program })
    }

    /// Opens the page `file` in a window of `size`, dark or light.
    ///
    /// # Panics
    /// Panics if the browser fails or takes no picture.
    pub fn visit(&self, file: &Path, [width, height]: [u32; 2], dark: bool) -> Visit {
        let profile = tempfile::tempdir().expect("a folder for the browser");
        let picture = profile.path().join("picture.png");
        let with = |flag: &str, value: &dyn AsRef<OsStr>| {
            let mut argument = std::ffi::OsString::from(flag);
            argument.push(value);
            argument
        };
        // Blink numbers the dark scheme 0 and the light one 1.
        let scheme = u8::from(!dark).to_string();
        let output = Command::new(self.program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .args(["--enable-logging=stderr", "--force-device-scale-factor=1"])
            .arg(with("--blink-settings=preferredColorScheme=", &scheme))
            .arg(with("--user-data-dir=", &profile.path()))
            .arg(with("--screenshot=", &picture))
            .arg(format!("--window-size={width},{height}"))
            .arg(with("file://", &file))
            .output()
            .expect("the browser starts");
        let messages = String::from_utf8_lossy(&output.stderr);
        let picture = image::open(&picture).unwrap_or_else(|error| panic!("{error}: {messages}"));
        let console = messages.lines().filter(|line| line.contains("CONSOLE"));
        Visit { console: console.map(str::to_owned).collect(), picture: picture.to_rgb8() }
    }
}
