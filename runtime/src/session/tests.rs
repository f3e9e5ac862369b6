use std::sync::Arc;

use super::{Compute, HALF_AGREEMENT, INT8_AGREEMENT, Session, SessionOptions};
use crate::error::ErrorKind;
use crate::exec::synthetic::{file, model, pixels, plain_config};
use crate::format::{CodeWidth, Encoding};
use crate::model::Model;

const FOUR: Encoding = Encoding::Codes(CodeWidth::Four);

fn options(compute: Compute) -> SessionOptions {
    SessionOptions { threads: 1, compute, ..Default::default() }
}

#[test]
fn concurrent_sessions_equal_serial_runs() {
    let config = plain_config();
    let model = model(&config, FOUR, Encoding::F16);
    let input = pixels(&config, 2);
    for compute in [Compute::F32, Compute::Int8] {
        let expected = Session::new(&model, options(compute)).unwrap().run(&input, 2).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (model, input, expected) = (Arc::clone(&model), &input, &expected);
                scope.spawn(move || {
                    let options = SessionOptions { threads: 1 + thread % 3, ..options(compute) };
                    let mut session = Session::new(&model, options).unwrap();
                    for _ in 0..100 {
                        assert!(session.run(input, 2).unwrap() == *expected);
                    }
                });
            }
        });
    }
}

#[test]
fn non_finite_pixels_are_named() {
    let config = plain_config();
    let model = model(&config, FOUR, Encoding::F16);
    let mut session = Session::new(&model, options(Compute::F32)).unwrap();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut input = pixels(&config, 2);
        input[123] = value;
        let error = session.run(&input, 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(error.to_string().contains("pixel 123 "), "{error}");
    }
}

#[test]
fn extreme_pixels_run() {
    let config = plain_config();
    for compute in [Compute::F32, Compute::Int8] {
        let model = model(&config, FOUR, Encoding::Codes(CodeWidth::Eight));
        let mut session = Session::new(&model, options(compute)).unwrap();
        for value in [0.0, -0.0, 1e-40, 1e30, f32::MAX, f32::MIN] {
            let input = vec![value; pixels(&config, 1).len()];
            assert_eq!(session.run(&input, 1).unwrap().len(), 7);
        }
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let config = plain_config();
    let model = model(&config, FOUR, Encoding::F16);
    let mut session = Session::new(&model, options(Compute::F32)).unwrap();
    let input = pixels(&config, 2);
    for (pixels, batch) in
        [(&input[1..], 2), (&input[..], 1), (&input[..0], 1), (&input[..], usize::MAX)]
    {
        let error = session.run(pixels, batch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(error.to_string().contains(", 3, 12, 20]"), "{error}");
    }
    assert!(session.run(&[], 0).unwrap().is_empty());
    // An error leaves the session usable.
    assert_eq!(session.run(&input, 2).unwrap().len(), 14);
}

#[test]
fn half_needs_a_layer_with_a_kernel_for_it() {
    // Float layers have none anywhere.
    let floats = model(&plain_config(), Encoding::F32, Encoding::F16);
    let error = Session::new(&floats, options(Compute::Half)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("use f32, int8 or auto"), "{error}");

    let model = model(&plain_config(), FOUR, Encoding::F16);
    match Session::new(&model, options(Compute::Half)) {
        Ok(session) => {
            assert_eq!(session.compute(), Compute::Half);
            assert!(session.kernel().contains("-w4a16-"), "{}", session.kernel());
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(model.isa().unwrap().name()), "{error}");
        }
    }
}

#[test]
fn auto_needs_recorded_agreement() {
    let config = plain_config();
    let resolved = |linear, measured: &[(&str, f64)], int8_agreement| {
        let model = Model::from_bytes(file(&config, linear, Encoding::F16, measured)).unwrap();
        let options = SessionOptions { int8_agreement, ..options(Compute::Auto) };
        Session::new(&model, options).unwrap().compute()
    };
    assert_eq!(resolved(FOUR, &[], 95.0), Compute::F32);
    assert_eq!(resolved(FOUR, &[(INT8_AGREEMENT, 94.9)], 95.0), Compute::F32);
    assert_eq!(resolved(FOUR, &[(INT8_AGREEMENT, 96.0)], 96.5), Compute::F32);
    assert_eq!(resolved(Encoding::F32, &[(INT8_AGREEMENT, 100.0)], 95.0), Compute::F32);
    // Either may be faster; what was chosen is concrete and stays.
    let bytes = file(&config, FOUR, Encoding::F16, &[(INT8_AGREEMENT, 94.9)]);
    let model = Model::from_bytes(bytes).unwrap();
    let options = SessionOptions { int8_agreement: 90.0, ..options(Compute::Auto) };
    let chosen = Session::new(&model, options).unwrap().compute();
    assert!(matches!(chosen, Compute::F32 | Compute::Int8));
    for _ in 0..5 {
        assert_eq!(Session::new(&model, options).unwrap().compute(), chosen);
    }
}

/// A choice among more modes, made before, must not reach a session that permits fewer.
#[test]
fn auto_takes_only_what_its_own_threshold_permits() {
    for (half, int8, permitted) in [(100.0, 94.0, Compute::Half), (94.0, 100.0, Compute::Int8)] {
        let measured = [(HALF_AGREEMENT, half), (INT8_AGREEMENT, int8)];
        let model =
            Model::from_bytes(file(&plain_config(), FOUR, Encoding::F16, &measured)).unwrap();
        for (threshold, modes) in [
            (90.0, &[Compute::F32, Compute::Half, Compute::Int8][..]),
            (95.0, &[Compute::F32, permitted]),
            (100.1, &[Compute::F32]),
        ] {
            let options = SessionOptions { int8_agreement: threshold, ..options(Compute::Auto) };
            let chosen = Session::new(&model, options).unwrap().compute();
            assert!(modes.contains(&chosen), "{chosen} at {threshold}");
        }
    }
}

#[test]
fn kernels_and_threads_are_shown() {
    let model = model(&plain_config(), FOUR, Encoding::F16);
    let session = |compute, threads| {
        Session::new(&model, SessionOptions { threads, ..options(compute) }).unwrap()
    };
    assert!(session(Compute::F32, 1).kernel().contains("-w4a32-"));
    assert!(session(Compute::Int8, 1).kernel().contains("-w4a8-"));
    assert_eq!(session(Compute::F32, 3).threads(), 3);
    assert!(session(Compute::F32, 0).threads() >= 1);
    assert!(model.resident_bytes() > 0);
}

#[test]
fn compute_names_round_trip() {
    for compute in [Compute::Auto, Compute::F32, Compute::Half, Compute::Int8] {
        assert_eq!(compute.to_string().parse::<Compute>().unwrap(), compute);
    }
    assert_eq!("f64".parse::<Compute>().unwrap_err().kind(), ErrorKind::Input);
}
