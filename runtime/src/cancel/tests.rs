use crate::error::ErrorKind;
use crate::exec::synthetic::{model, pixels, plain_config};
use crate::format::Encoding;
use crate::session::{Session, SessionOptions};

#[test]
fn a_raised_flag_stops_every_run_until_it_is_reset() {
    let config = plain_config();
    let model = model(&config, Encoding::F32, Encoding::F16);
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    let input = pixels(&config, 2);
    let expected = session.run(&input, 2).unwrap();
    let flag = session.cancel_flag();
    flag.cancel();
    for _ in 0..2 {
        assert_eq!(session.run(&input, 2).unwrap_err().kind(), ErrorKind::Cancelled);
    }
    assert!(session.cancel_flag().is_cancelled());
    flag.reset();
    // Buffers that an unfinished run left behind do not show.
    assert_eq!(session.run(&input, 2).unwrap(), expected);
}

/// A stop asked for in the middle of a batch ends it there: the passes before are done, those after never run.
#[test]
fn a_run_under_way_stops_between_passes() {
    let config = plain_config();
    let model = model(&config, Encoding::F32, Encoding::F16);
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    let batch = 400;
    let input = pixels(&config, batch);
    let mut whole = 0;
    session.run_with_progress(&input, batch, |images| whole += images).unwrap();
    assert_eq!(whole, batch);

    let flag = session.cancel_flag();
    let mut done = 0;
    let result = session.run_with_progress(&input, batch, |images| {
        done += images;
        flag.cancel();
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(done > 0 && done < batch, "{done} of {batch} images");
}

#[test]
fn another_thread_stops_a_run() {
    let config = plain_config();
    let model = model(&config, Encoding::F32, Encoding::F16);
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    let flag = session.cancel_flag();
    let input = pixels(&config, 2);
    std::thread::scope(|scope| {
        let (started, wait) = std::sync::mpsc::channel();
        let runner = scope.spawn(move || {
            loop {
                if let Err(error) = session.run(&input, 2) {
                    return error.kind();
                }
                // Nobody waits for the later ones.
                let _ = started.send(());
            }
        });
        wait.recv().unwrap();
        flag.cancel();
        assert_eq!(runner.join().unwrap(), ErrorKind::Cancelled);
    });
}
