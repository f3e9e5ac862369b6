//! What is written is read back, on disk and in memory, and writing is all or nothing.

use std::fs;

use super::fixture::{config, file, mixed_width, parts, tensors};
use crate::error::ErrorKind;
use crate::format::size::MAX_CONTAINER_BYTES;
use crate::format::{Container, Encoding, encode, file_size_limit, size_bound, write};
use crate::model::config::VitConfig;

#[test]
fn content_survives() {
    let config = config();
    let parts = parts(&config);
    for encoding in [mixed_width, |_| Encoding::F32, |_| Encoding::F16] {
        let tensors = tensors(&config, encoding);
        let bytes = encode(&parts, &tensors).unwrap();
        let container = Container::from_bytes(&bytes).unwrap();
        assert_eq!(container.file_bytes(), bytes.len() as u64);
        let manifest = container.manifest();
        assert_eq!(manifest.config, parts.config);
        assert_eq!(manifest.preprocessing, parts.preprocessing);
        assert_eq!(manifest.class_names, parts.class_names);
        assert_eq!(manifest.recipe, parts.recipe);
        assert_eq!(manifest.provenance, parts.provenance);
        assert_eq!(manifest.measured("int8_agreement"), Some(98.5));
        assert_eq!(manifest.measured("other"), None);
        assert_eq!(manifest.metadata, parts.metadata);
        assert_eq!(container.tensors().count(), tensors.len());
        for tensor in &tensors {
            let view = container.tensor(&tensor.name).unwrap();
            assert_eq!(view.entry.shape, tensor.shape);
            assert_eq!(view.entry.encoding, tensor.encoding);
            assert_eq!(view.bytes, tensor.bytes.as_ref(), "{}", tensor.name);
            assert_eq!(view.bytes.as_ptr().align_offset(64), 0);
        }
        assert!(container.tensor("absent").is_none());
    }
}

#[test]
fn the_order_of_the_tensors_does_not_matter() {
    let config = config();
    let mut reversed = tensors(&config, mixed_width);
    reversed.reverse();
    let bytes = encode(&parts(&config), &reversed).unwrap();
    assert_eq!(bytes, file());
    let container = Container::from_bytes(&bytes).unwrap();
    let names: Vec<&str> = container.tensors().map(|view| view.entry.name.as_str()).collect();
    assert_eq!(
        names[..5],
        [
            "cls_token",
            "pos_embed",
            "patch_embed.proj.weight",
            "patch_embed.proj.weight.scale",
            "patch_embed.proj.weight.offset"
        ]
    );
}

#[test]
fn the_writer_refuses_what_the_reader_would_refuse() {
    let config = config();
    let mut tensors = tensors(&config, mixed_width);
    let parts = parts(&config);

    let removed = tensors.remove(0);
    let error = encode(&parts, &tensors).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains(&removed.name), "{error}");

    tensors.push(removed.clone());
    tensors.push(removed);
    let error = encode(&parts, &tensors).unwrap_err();
    assert!(error.to_string().contains("repeated (1): cls_token"), "{error}");

    tensors.pop();
    let cut = tensors.iter_mut().find(|tensor| tensor.name == "norm.bias").unwrap();
    cut.bytes.to_mut().pop();
    let error = encode(&parts, &tensors).unwrap_err();
    assert_eq!(error.tensor(), Some("norm.bias"));

    let mut wordy = parts.clone();
    wordy.recipe = (0..20).map(|i| (format!("key {i}"), "x".repeat(60_000))).collect();
    let error = encode(&wordy, &self::tensors(&config, mixed_width)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}

#[test]
fn imagenet_class_names_fit() {
    let config = VitConfig { num_classes: 1000, ..config() };
    let mut parts = parts(&config);
    parts.class_names = (0..1000).map(|class| format!("{class:0>28}")).collect();
    let bytes = encode(&parts, &tensors(&config, mixed_width)).unwrap();
    let container = Container::from_bytes(&bytes).unwrap();
    assert_eq!(container.manifest().class_names, parts.class_names);
    let bound = size_bound(&config, &container.manifest().tensors);
    assert!(bytes.len() as u64 <= bound + bound / 100 + MAX_CONTAINER_BYTES);
}

#[test]
fn files_are_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.fresnel");
    let config = config();
    let (parts, tensors) = (parts(&config), tensors(&config, mixed_width));
    let entries = || fs::read_dir(folder.path()).unwrap().count();

    let summary = write(&path, false, &parts, &tensors).unwrap();
    assert_eq!(fs::read(&path).unwrap(), file());
    assert_eq!(summary.file_bytes, file().len() as u64);
    assert!(summary.manifest_bytes + summary.data_bytes < summary.file_bytes);
    Container::open(&path).unwrap();
    assert_eq!(entries(), 1);

    // Refused without force, and the file is untouched.
    fs::write(&path, "precious").unwrap();
    let error = write(&path, false, &parts, &tensors).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(error.path(), Some(path.as_path()));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    // Bad content replaces nothing even with force.
    write(&path, true, &parts, &tensors[1..]).unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    write(&path, true, &parts, &tensors).unwrap();
    assert_eq!(fs::read(&path).unwrap(), file());
    assert_eq!(entries(), 1);

    // No debris where the rename fails, nor where the folder is missing.
    let occupied = folder.path().join("folder");
    fs::create_dir(&occupied).unwrap();
    for force in [false, true] {
        assert_eq!(write(&occupied, force, &parts, &tensors).unwrap_err().kind(), ErrorKind::Io);
    }
    let missing = folder.path().join("missing").join("model.fresnel");
    assert_eq!(write(&missing, false, &parts, &tensors).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(entries(), 2);
}

#[cfg(unix)]
#[test]
fn files_have_ordinary_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let ordinary = folder.path().join("ordinary");
    fs::write(&ordinary, "").unwrap();
    let path = folder.path().join("model.fresnel");
    let config = config();
    write(&path, false, &parts(&config), &tensors(&config, mixed_width)).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&ordinary));
}

#[test]
fn what_is_no_file_is_an_io_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = Container::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let error = Container::open(folder.path().join("absent")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("absent"), "{error}");
}

#[test]
fn the_size_is_known_before_the_file() {
    let config = config();
    let parts = parts(&config);
    for encoding in [mixed_width, |_| Encoding::F32, |_| Encoding::F16] {
        let bytes = encode(&parts, &tensors(&config, encoding)).unwrap();
        let container = Container::from_bytes(&bytes).unwrap();
        let entries = &container.manifest().tensors;
        let limit = file_size_limit(&parts, entries).unwrap();
        let length = bytes.len() as u64;
        // A checksum takes one to five bytes, and the manifest is padded to 64.
        let slack = 4 * entries.len() as u64 + 64;
        assert!((length..=length + slack).contains(&limit), "{limit}, file {length}");
    }
}
