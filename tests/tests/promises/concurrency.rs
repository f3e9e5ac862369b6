//! Promises about threads.

use std::fs;
use std::sync::Arc;

use fresnel_fuzz::files::parts;
use fresnel_runtime::format::{Container, write};
use fresnel_runtime::{Compute, Error, ErrorKind, Model, Session};
use fresnel_tests::noise;
use fresnel_tests::scratch::Scratch;

use crate::model::{bits, config, file, filled, pixels, session};

const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn sent<T: Send>() {}
    shared::<Model>();
    shared::<Container>();
    shared::<Error>();
    sent::<Session>();
};

#[test]
fn promise_09_sessions_are_independent() {
    let config = config();
    let model = Model::from_bytes(file(&config, 1)).expect("a model");
    // Each thread has pixels of its own, so that a buffer in common would show.
    let inputs: Vec<Vec<f32>> =
        (0..8).map(|thread| noise(pixels(&config, 1).len(), 100 + thread)).collect();
    for compute in [Compute::F32, Compute::Int8] {
        let run = |threads: usize, input: &[f32], times: usize| -> Vec<Vec<u32>> {
            let mut session = session(&Arc::clone(&model), compute, threads);
            (0..times).map(|_| bits(&session.run(input, 1).expect("a result"))).collect()
        };
        let serial: Vec<Vec<u32>> = inputs.iter().flat_map(|input| run(1, input, 1)).collect();
        std::thread::scope(|scope| {
            for (thread, (input, expected)) in inputs.iter().zip(&serial).enumerate() {
                let run = &run;
                scope.spawn(move || {
                    for found in run(1 + thread % 3, input, 100) {
                        assert_eq!(found, *expected, "thread {thread}, {compute}");
                    }
                });
            }
        });
    }
}

#[test]
fn promise_09_models_load_side_by_side() {
    let (scratch, config) = (Scratch::new(), config());
    let path = scratch.write("model.fresnel", file(&config, 2));
    let input = pixels(&config, 1);
    let run = || {
        let model = Model::open(&path).expect("a model");
        bits(&session(&model, Compute::F32, 1).run(&input, 1).expect("a result"))
    };
    let expected = run();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(run(), expected)));
        }
    });
}

#[test]
fn promise_11_of_concurrent_writers_one_wins() {
    let (scratch, config) = (Scratch::new(), config());
    let path = scratch.path("model.fresnel");
    let files: Vec<Vec<u8>> = (0..8).map(|seed| file(&config, seed)).collect();
    let write_all = |force: bool| -> Vec<Result<(), ErrorKind>> {
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|seed| {
                    let (config, path) = (&config, &path);
                    scope.spawn(move || {
                        let tensors = filled(config, seed, &noise(997, seed));
                        let written = write(path, force, &parts(config.clone()), &tensors);
                        written.map(|_| ()).map_err(|error| error.kind())
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
        })
    };
    for _ in 0..10 {
        let written = write_all(false);
        assert_eq!(written.iter().filter(|written| written.is_ok()).count(), 1, "{written:?}");
        assert!(written.iter().all(|written| matches!(written, Ok(()) | Err(ErrorKind::Io))));
        let winner = written.iter().position(Result::is_ok).expect("one");
        assert!(
            fs::read(&path).expect("a file") == files[winner],
            "another file than the winner's"
        );

        assert!(write_all(true).iter().all(Result::is_ok));
        assert!(files.contains(&fs::read(&path).expect("a file")), "a mixture of files");
        assert_eq!(scratch.entries(), ["model.fresnel"]);
        fs::remove_file(&path).expect("removed");
    }
}
