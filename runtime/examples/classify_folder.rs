//! Names what the pictures of a folder show, and how fast.
//!
//! ```text
//! cargo run --release -p fresnel-runtime --example classify_folder -- model.fresnel photos [THREADS]
//! ```
//!
//! One line for each picture goes to standard output: file, class, probability. A picture that cannot be read is reported on
//! standard error, and the others go on.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fresnel_runtime::image::dataset;
use fresnel_runtime::{Model, Prediction, Session, SessionOptions};

/// Pictures decoded and run together: bounds memory.
const BATCH: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, folder, threads) = match arguments.as_slice() {
        [model, folder] => (model, folder, 0),
        [model, folder, threads] => (model, folder, threads.parse()?),
        _ => return Err("usage: classify_folder MODEL FOLDER [THREADS]".into()),
    };
    let model = Model::open(model)?;
    let preprocessor = model.preprocessor()?;
    let options = SessionOptions { threads, ..SessionOptions::default() };
    let mut session = Session::new(&model, options)?;
    let paths: Vec<PathBuf> = dataset::list(folder)?.into_pictures();

    let (mut reading, mut running) = (Duration::ZERO, Duration::ZERO);
    let mut done = 0;
    for paths in paths.chunks(BATCH) {
        let start = Instant::now();
        let (mut names, mut pixels) = (Vec::new(), Vec::new());
        for (path, picture) in paths.iter().zip(preprocessor.load_all(paths, session.threads())) {
            match picture {
                Ok(picture) => {
                    names.push(path);
                    pixels.extend(picture);
                }
                Err(error) => eprintln!("{error}"),
            }
        }
        reading += start.elapsed();
        let start = Instant::now();
        let logits = session.run(&pixels, names.len())?;
        running += start.elapsed();
        for (path, logits) in names.iter().zip(logits.chunks_exact(model.output_len())) {
            let best = Prediction::top(logits, 1)?[0];
            let name = model.class_name(best.class).unwrap_or("?");
            println!("{}\t{name}\t{:.4}", path.display(), best.probability);
        }
        done += names.len();
    }
    let rate = |time: Duration| done as f64 / time.as_secs_f64();
    eprintln!(
        "{done} of {} pictures on {} threads in {}: {:.0} per second ({:.0} reading, {:.0} running)",
        paths.len(),
        session.threads(),
        session.compute(),
        rate(reading + running),
        rate(reading),
        rate(running),
    );
    Ok(())
}
