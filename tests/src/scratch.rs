//! A folder for one test, gone when the test is.

use std::fs;
use std::path::PathBuf;

use safetensors::SafeTensors;
use tempfile::TempDir;

use crate::digits_checkpoint;

/// A temporary folder with what a test puts into it.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// An empty folder.
    ///
    /// # Panics
    /// Panics if it can't be made; so do the methods for what they can't read or write.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a scratch folder") }
    }

    /// The path of a file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as an argument of a program.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a UTF-8 path").to_owned()
    }

    /// The content of a file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("a file")
    }

    /// Writes a file and returns its path as an argument of a program.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).expect("written");
        self.text(name)
    }

    /// Writes `count` small coloured pictures `0.png`, `1.png`... to a folder in it, which is made.
    pub fn pictures(&self, folder: &str, count: u32) {
        let folder = self.path(folder);
        fs::create_dir_all(&folder).expect("a folder");
        for index in 0..count {
            let picture = image::RgbImage::from_fn(80, 72, |x, y| {
                let wave =
                    |speed: u32, shift: u32| ((x * speed + y * (index + shift)) * 7 % 256) as u8;
                image::Rgb([wave(1, index), wave(2, 3), wave(index + 1, 1)])
            });
            picture.save(folder.join(format!("{index}.png"))).expect("a picture");
        }
    }

    /// Writes the first `count` of the digits that the program carries as `name`, `calibration` or `evaluation`: pictures, and
    /// a list with their labels, `name.csv`.
    pub fn digits(&self, name: &str, count: usize) {
        let bytes =
            fs::read(digits_checkpoint().join(format!("{name}.safetensors"))).expect("digits");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let tensor = |name: &str| file.tensor(name).expect("a tensor").data().to_vec();
        let (images, labels) = (tensor("images"), tensor("labels"));
        let mut list = String::from("file,label\n");
        for (index, (pixels, label)) in
            images.chunks_exact(28 * 28).zip(labels).take(count).enumerate()
        {
            let digit = image::GrayImage::from_raw(28, 28, pixels.to_vec()).expect("a digit");
            let file = format!("{name}_{index}.png");
            digit.save(self.path(&file)).expect("a picture");
            list.push_str(&format!("{file},{label}\n"));
        }
        self.write(&format!("{name}.csv"), list);
    }

    /// The names of what lies in it, sorted.
    pub fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}
