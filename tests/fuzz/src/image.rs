//! Pictures.

use std::sync::Once;

use fresnel_runtime::format::{CropMode, Interpolation, Preprocessing};
use fresnel_runtime::image::decode::quiet_decoders;
use fresnel_runtime::image::{ColorMode, DecodeLimits, Preprocessor, decode_bytes};

/// Small, so that a run takes microseconds; the real ones are tested by themselves.
const LIMITS: DecodeLimits =
    DecodeLimits { max_side: 1 << 10, max_pixels: 1 << 14, max_file_bytes: 1 << 20 };

/// Decodes any bytes as a picture, grey and in colour, and prepares it for a model.
///
/// # Panics
/// When that does, or when the picture is larger than allowed or not what its sides say.
pub fn image_decode(bytes: &[u8]) {
    // The fuzzer's panic hook ends the process at any panic, also at one that is caught.
    static QUIET: Once = Once::new();
    QUIET.call_once(quiet_decoders);
    for (color, channels) in [(ColorMode::Rgb, 3), (ColorMode::Grey, 1)] {
        let Ok(image) = decode_bytes(bytes, color, &LIMITS) else { continue };
        let pixels = u64::from(image.width()) * u64::from(image.height());
        assert!(pixels <= LIMITS.max_pixels && image.color() == color);
        assert_eq!(image.pixels().len() as u64, pixels * u64::from(channels));
        let crop_modes = [CropMode::Center, CropMode::Squash, CropMode::Border];
        let filters = [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic];
        for (crop_mode, interpolation) in crop_modes.into_iter().zip(filters) {
            let preprocessing = Preprocessing {
                input_size: [3, 5],
                crop_pct: 0.875,
                crop_mode,
                interpolation,
                mean: [0.5; 3],
                std: [0.25; 3],
            };
            let preprocessor = Preprocessor::new(&preprocessing, channels).expect("a preprocessor");
            if let Ok(prepared) = preprocessor.apply(&image) {
                assert_eq!(prepared.len(), preprocessor.output_len());
                assert!(prepared.iter().all(|value| value.is_finite()));
            }
        }
    }
}
