//! Quantizes a checkpoint to several widths in code, and compares the models with the float one.
//!
//! ```text
//! cargo run --release -p fresnel-quantizer --example quantize_and_compare -- MODEL_FOLDER IMAGES [BITS...]
//! ```
//!
//! `MODEL_FOLDER` holds `model.safetensors` and `config.json`, `IMAGES` is a folder of pictures (or a csv). Half of them calibrate;
//! on the others the share is counted on which the quantized and the float model put the same class first. Nothing is written:
//! the files exist in memory only.

use std::error::Error;
use std::path::Path;

use fresnel_quantizer::algorithm::{Method, StatisticsOptions, beacon_plus};
use fresnel_quantizer::calibration::images::Selection;
use fresnel_quantizer::calibration::{Calibration, CalibrationImages, Prepared};
use fresnel_quantizer::device::Device;
use fresnel_quantizer::import::{FloatModel, Source, load};
use fresnel_quantizer::recipe::Recipe;
use fresnel_quantizer::widths::StoredWidth;
use fresnel_runtime::evaluation::LabelledPictures;
use fresnel_runtime::format::{CodeWidth, encode};
use fresnel_runtime::{DeviceChoice, Model, Session, SessionOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, images, bits @ ..] = arguments.as_slice() else {
        return Err("usage: quantize_and_compare MODEL_FOLDER IMAGES [BITS...]".into());
    };
    let widths: Vec<StoredWidth> = match bits {
        [] => [CodeWidth::Four, CodeWidth::Three, CodeWidth::Two].map(StoredWidth::Codes).into(),
        bits => bits.iter().map(|bits| bits.parse()).collect::<Result<_, _>>()?,
    };
    let model = load(&Source::locate(Path::new(folder), None)?)?;
    let device = Device::open(&DeviceChoice::Auto)?;

    let selection = Selection { count: None, seed: 0, strict: true };
    let input = (&model.preprocessing, model.config.in_channels);
    let images = CalibrationImages::select(Path::new(images), selection, input, 0)?;
    let half = images.len() / 2;
    let others = images.files()[half..].to_vec();
    let recipes: Vec<Recipe> = widths.into_iter().map(recipe).collect();
    let with_information = recipes.iter().any(Recipe::needs_information);
    let calibration =
        Prepared::new(&model, images.part(0..half), with_information, &device, None, |_| {})?;

    let (mut float, float_bytes) = session(&model, &recipe(StoredWidth::Float32), None, &device)?;
    let judges = LabelledPictures::labelled_by(&mut float, others, |_| {})?;
    println!("float: {float_bytes} bytes; {half} images calibrate, {} judge", judges.len());
    for recipe in &recipes {
        let calibration = Some(calibration.calibration());
        let (mut quantized, bytes) = session(&model, recipe, calibration, &device)?;
        let agreement = judges.evaluate(&mut quantized, |_| {})?.accuracy().top1();
        let smaller = float_bytes as f64 / bytes as f64;
        println!(
            "{} bit: {bytes} bytes, {smaller:.1} times smaller, {agreement:.1} % agree with float",
            recipe.bits
        );
    }
    Ok(())
}

/// What quantizes to this width best as far as was measured.
fn recipe(bits: StoredWidth) -> Recipe {
    let statistics = bits.codes().map(StatisticsOptions::for_beacon_plus).unwrap_or_default();
    Recipe {
        bits,
        layers: Vec::new(),
        edge_bits: match bits {
            StoredWidth::Codes(_) => StoredWidth::Codes(CodeWidth::Eight),
            float => float,
        },
        method: Method::BeaconPlus(beacon_plus::Options::default()),
        statistics,
        tuning: None,
        seed: 0,
    }
}

/// A session on the model that the recipe makes, and the length of its file.
fn session(
    model: &FloatModel,
    recipe: &Recipe,
    calibration: Option<Calibration>,
    device: &Device,
) -> Result<(Session, usize), fresnel_runtime::Error> {
    let finished = recipe.run(model, calibration, device, 0, |_| {})?;
    let bytes = encode(&finished.parts, &finished.tensors)?;
    let model = Model::from_bytes(&bytes)?;
    Ok((Session::new(&model, SessionOptions::default())?, bytes.len()))
}
