use std::path::Path;

use super::*;

/// A folder of empty files with these names.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }
    folder
}

/// The items' names below `root`, with their labels.
fn items(root: &Path, listing: &Listing) -> Vec<(String, Option<u32>)> {
    let name = |item: &Item| item.path.strip_prefix(root).unwrap().display().to_string();
    listing.items.iter().map(|item| (name(item), item.label)).collect()
}

fn from_csv(text: impl AsRef<[u8]>) -> Result<Listing, Error> {
    let folder = folder(&["a.jpg", "b.png", "with, comma.jpg", "with \"quote\".jpg", "sub/c.jpg"]);
    let path = folder.path().join("list.csv");
    fs::write(&path, text).unwrap();
    let mut listing = list(&path)?;
    for item in &mut listing.items {
        item.path = item.path.strip_prefix(folder.path()).unwrap().to_path_buf();
    }
    Ok(listing)
}

fn csv_items(text: impl AsRef<[u8]>) -> Vec<(String, Option<u32>)> {
    items(Path::new(""), &from_csv(text).unwrap())
}

fn own(items: &[(&str, Option<u32>)]) -> Vec<(String, Option<u32>)> {
    items.iter().map(|&(name, label)| (name.to_owned(), label)).collect()
}

#[test]
fn a_flat_folder_has_no_labels() {
    let folder = folder(&["b.JPG", "a.jpeg", "c.PnG", "notes.txt", "no_extension", ".hidden.jpg"]);
    let listing = list(folder.path()).unwrap();
    let expected = own(&[("a.jpeg", None), ("b.JPG", None), ("c.PnG", None)]);
    assert_eq!(items(folder.path(), &listing), expected);
    assert_eq!(listing.other_files, 3);
    assert!(
        listing.classes.is_empty()
            && listing.unreadable.is_empty()
            && listing.items.iter().all(|item| item.label.is_none())
    );
}

#[test]
fn sub_folders_are_classes() {
    let folder = folder(&[
        "n02/2.jpg",
        "n02/1.jpg",
        "n01/deep/er/3.png",
        "n01/0.jpg",
        "n10/x.txt",
        "n03/4.jpeg",
        "beside.jpg",
        ".cache/5.jpg",
    ]);
    let listing = list(folder.path()).unwrap();
    let expected = own(&[
        ("n01/0.jpg", Some(0)),
        ("n01/deep/er/3.png", Some(0)),
        ("n02/1.jpg", Some(1)),
        ("n02/2.jpg", Some(1)),
        ("n03/4.jpeg", Some(2)),
    ]);
    assert_eq!(items(folder.path(), &listing), expected);
    assert_eq!(listing.classes, ["n01", "n02", "n03", "n10"]);
    assert_eq!(listing.empty_classes, ["n10"]);
    assert_eq!((listing.other_files, listing.beside_classes.len()), (1, 1));
    assert!(listing.items.iter().all(|item| item.label.is_some()));
}

#[test]
fn sub_folders_without_pictures_make_no_classes() {
    let folder = folder(&["a.jpg", "docs/readme.md", "empty/"]);
    let listing = list(folder.path()).unwrap();
    assert_eq!(items(folder.path(), &listing), own(&[("a.jpg", None)]));
    assert!(listing.classes.is_empty());
    assert_eq!(listing.other_files, 1);
}

#[test]
fn a_single_picture_is_a_list_of_one() {
    let folder = folder(&["a.jpg"]);
    let listing = list(folder.path().join("a.jpg")).unwrap();
    assert_eq!(items(folder.path(), &listing), own(&[("a.jpg", None)]));
}

#[test]
fn nothing_to_list_is_an_error_with_the_path() {
    let folder = folder(&["empty/", "texts/a.txt", "model.bin"]);
    let cases = [
        ("missing", ErrorKind::Io),
        ("missing.csv", ErrorKind::Io),
        ("empty", ErrorKind::Input),
        ("texts", ErrorKind::Input),
        ("model.bin", ErrorKind::Input),
    ];
    for (name, kind) in cases {
        let path = folder.path().join(name);
        let error = list(&path).unwrap_err();
        assert_eq!((error.kind(), error.path()), (kind, Some(path.as_path())), "{error}");
    }
    let error = list(folder.path().join("texts")).unwrap_err();
    assert_eq!(error.message(), "found no .jpg, .jpeg or .png picture (1 other files)");
}

#[cfg(unix)]
#[test]
fn circles_and_dead_links_are_reported_not_followed() {
    use std::os::unix::fs::symlink;

    let folder = folder(&["class/a.jpg", "class/deep/b.jpg"]);
    symlink(folder.path(), folder.path().join("class/deep/circle")).unwrap();
    symlink("nowhere.jpg", folder.path().join("class/dead.jpg")).unwrap();
    symlink("a.jpg", folder.path().join("class/link.jpg")).unwrap();
    let listing = list(folder.path()).unwrap();
    let expected = own(&[
        ("class/a.jpg", Some(0)),
        ("class/deep/b.jpg", Some(0)),
        ("class/link.jpg", Some(0)),
    ]);
    assert_eq!(items(folder.path(), &listing), expected);
    assert_eq!(listing.unreadable.len(), 2);
}

/// A few links that make 2^31 ways.
#[cfg(unix)]
#[test]
fn links_that_multiply_folders_are_an_error() {
    use std::os::unix::fs::symlink;

    let folder = folder(&["class/a.jpg"]);
    let path = |name: String| folder.path().join(name);
    for index in 0..31 {
        fs::create_dir(path(format!(".{index}"))).unwrap();
        for link in ["left", "right"] {
            symlink(path(format!(".{}", index + 1)), path(format!(".{index}/{link}"))).unwrap();
        }
    }
    fs::create_dir(path(".31".to_owned())).unwrap();
    symlink(path(".0".to_owned()), path("class/many".to_owned())).unwrap();
    let error = list(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn too_deep_folders_are_reported() {
    let deep = format!("class/{}a.jpg", "d/".repeat(MAX_DEPTH + 5));
    let folder = folder(&[&deep, "class/b.jpg"]);
    let listing = list(folder.path()).unwrap();
    assert_eq!(items(folder.path(), &listing), own(&[("class/b.jpg", Some(0))]));
    assert_eq!(listing.unreadable[0].kind(), ErrorKind::Limit);
}

#[test]
fn csv_with_and_without_labels() {
    assert_eq!(
        csv_items("file,label\na.jpg,3\nsub/c.jpg,0\n"),
        own(&[("a.jpg", Some(3)), ("sub/c.jpg", Some(0))])
    );
    assert_eq!(csv_items("file\nb.png\na.jpg"), own(&[("b.png", None), ("a.jpg", None)]));
    assert_eq!(
        csv_items("file,label\na.jpg,\nb.png,1"),
        own(&[("a.jpg", None), ("b.png", Some(1))])
    );
}

#[test]
fn csv_as_spreadsheets_write_it() {
    let text = "\u{feff}author, LABEL ,\"File\"\r\n\r\n\"Doe, \"\"J\"\"\nJr.\",7,\"with, comma.jpg\"\r\n\
                ,8,\"with \"\"quote\"\".jpg\"\r\n";
    assert_eq!(
        csv_items(text),
        own(&[("with, comma.jpg", Some(7)), ("with \"quote\".jpg", Some(8))])
    );
}

#[test]
fn mistakes_in_a_csv_are_named_with_their_line() {
    let cases: [(&[u8], &str); 13] = [
        (b"", "line 1: expected a header, found nothing"),
        (b"\n\n", "line 1: expected a header, found nothing"),
        (b"path,label\na.jpg,1\n", "line 1: expected a header with a column \"file\""),
        (b"file,label,Label\na.jpg,1,2\n", "line 1: expected one column \"label\", found several"),
        (b"file;label\na.jpg;1\n", "line 1: expected a header with a column \"file\""),
        (b"file,label\na.jpg,1\nb.png\n", "line 3: expected 2 fields as in the header, found 1"),
        (b"file,label\na.jpg,1,2\n", "line 2: expected 2 fields as in the header, found 3"),
        (b"file,label\n\n,1\n", "line 3: expected a file name, found an empty field"),
        (
            b"file,label\na.jpg,cat\n",
            "line 2: expected a class index of 0 or more as label, found \"cat\"",
        ),
        (b"file,label\na.jpg,-1\n", "line 2: expected a class index"),
        (b"file,label\n\"a.jpg,1\n", "line 2: a quoted field is not closed"),
        (b"file,label\n\"a\n\"x,1\n", "line 3: expected a comma or the end of the line behind"),
        (b"file,label\na.jpg,1\n\xFF,1\n", "line 3: expected UTF-8 text"),
    ];
    for (text, message) in cases {
        let error = from_csv(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
        assert!(error.message().starts_with(message), "{error} instead of {message}");
        assert_eq!(error.path().and_then(Path::file_name), Some(OsStr::new("list.csv")));
    }
    let error = from_csv("file\nb.png\nmissing.jpg\n").unwrap_err();
    assert!(error.message().starts_with("line 3: there is no file \""), "{error}");
    let error = from_csv("file,label\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input, "{error}");
}

#[test]
fn any_text_is_parsed_or_refused() {
    let alphabet = ["file", "a.jpg", ",", "\"", "\n", "\r\n", "\r", " ", "\u{feff}", "1"];
    // All texts of five of these parts.
    for mut number in 0..alphabet.len().pow(5) {
        let mut text = String::new();
        for _ in 0..5 {
            text.push_str(alphabet[number % alphabet.len()]);
            number /= alphabet.len();
        }
        let records = csv::Records::new(&text);
        assert!(records.take(20).count() < 20, "{text:?} does not end");
    }
}
