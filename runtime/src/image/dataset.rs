//! Lists of pictures, with or without labels.
//!
//! Two forms are understood:
//!
//! - **a folder**. Where its sub-folders hold pictures, each sub-folder is a class (the ImageFolder
//!   layout of torchvision): classes are numbered by their sorted names, pictures are searched at
//!   any depth below. Otherwise the pictures lie flat in the folder and have no labels;
//! - **a CSV file** with a header that names a column `file` and, optionally, a column `label` of
//!   class indices. Paths are relative to the CSV's own folder; other columns are ignored.
//!
//! A folder may hold anything: what is no picture is counted, what cannot be read is reported beside
//! the list, and neither stops it. A CSV is a statement by its author: anything wrong in it is an
//! error that names the line.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::csv::{self, at_line};
use crate::error::{Error, ErrorKind};
use crate::input_file;

/// Extensions of pictures, compared without regard to case.
const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Deepest nesting of folders that is followed.
const MAX_DEPTH: usize = 32;

/// Most folders that are looked into. Links can make many ways of a few folders: with two to the next one in each, 2^32 are
/// within [`MAX_DEPTH`].
const MAX_FOLDERS: usize = 1 << 16;

/// Longest CSV file.
const MAX_CSV_BYTES: u64 = 1 << 28;

/// One picture of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its file.
    pub path: PathBuf,
    /// Its class index, where one is known.
    pub label: Option<u32>,
}

/// The pictures found, and what was passed over on the way.
#[derive(Debug, Default)]
pub struct Listing {
    /// The pictures: of a folder sorted by path, of a CSV in its order. Never empty.
    pub items: Vec<Item>,
    /// Names of the class sub-folders in the order of their labels; empty for flat folders and CSVs.
    pub classes: Vec<String>,
    /// Those of `classes` in which no picture was found.
    pub empty_classes: Vec<String>,
    /// Pictures that lie beside the class sub-folders instead of in one: of no class, so not items.
    pub beside_classes: Vec<PathBuf>,
    /// Files without a picture's extension, and hidden files.
    pub other_files: usize,
    /// Folders and entries that could not be read.
    pub unreadable: Vec<Error>,
}

impl Listing {
    /// All pictures at every depth, sorted by path in a folder and in a CSV's own order: for uses
    /// that need no labels.
    pub fn into_pictures(self) -> Vec<PathBuf> {
        let mixed = !self.beside_classes.is_empty();
        let items = self.items.into_iter().map(|item| item.path);
        let mut pictures: Vec<PathBuf> = items.chain(self.beside_classes).collect();
        if mixed {
            pictures.sort_unstable();
        }
        pictures
    }
}

/// Lists the pictures of a folder or of a CSV file. A path to a single picture gives a list of one.
///
/// # Errors
/// [`ErrorKind::Io`] when `path` does not exist or cannot be read, [`ErrorKind::Input`] when it is of
/// no understood form, holds no picture, or is a CSV with a mistake (the message names the line).
pub fn list(path: impl AsRef<Path>) -> Result<Listing, Error> {
    let path = path.as_ref();
    let metadata =
        fs::metadata(path).map_err(|error| Error::io("cannot read", error).at_path(path))?;
    let listing = if metadata.is_dir() {
        list_folder(path)?
    } else if has_extension(path, &["csv"]) {
        list_csv(path).map_err(|error| error.at_path(path))?
    } else if has_extension(path, &EXTENSIONS) {
        Listing {
            items: vec![Item { path: path.to_path_buf(), label: None }],
            ..Listing::default()
        }
    } else {
        return Err(Error::new(
            ErrorKind::Input,
            "expected a folder of pictures, a .csv list or a .jpg, .jpeg or .png picture",
        )
        .at_path(path));
    };
    if listing.items.is_empty() {
        let mut message =
            format!("found no .jpg, .jpeg or .png picture ({} other files)", listing.other_files);
        if let Some(error) = listing.unreadable.first() {
            let count = listing.unreadable.len();
            message.push_str(&format!("; {count} entries could not be read, first: {error}"));
        }
        return Err(Error::new(ErrorKind::Input, message).at_path(path));
    }
    Ok(listing)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let found = path.extension().and_then(OsStr::to_str);
    found.is_some_and(|found| extensions.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b".")
}

fn list_folder(root: &Path) -> Result<Listing, Error> {
    let mut walk = Walk::default();
    let top = walk.entries(root)?;
    let mut above = vec![fs::canonicalize(root).map_err(|error| unreadable_folder(error, root))?];
    let mut classes = Vec::new();
    for folder in top.folders {
        let mut pictures = Vec::new();
        walk.collect(&folder, &mut above, &mut pictures)?;
        pictures.sort_unstable();
        classes.push((folder, pictures));
    }
    let mut listing = Listing {
        other_files: walk.other_files,
        unreadable: walk.unreadable,
        ..Listing::default()
    };
    if classes.iter().all(|(_, pictures)| pictures.is_empty()) {
        listing.items.extend(top.pictures.into_iter().map(|path| Item { path, label: None }));
        return Ok(listing);
    }
    listing.beside_classes = top.pictures;
    for (label, (folder, pictures)) in (0..).zip(classes) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if pictures.is_empty() {
            listing.empty_classes.push(name.clone());
        }
        listing.classes.push(name);
        listing.items.extend(pictures.into_iter().map(|path| Item { path, label: Some(label) }));
    }
    Ok(listing)
}

/// What one folder holds, each sorted.
#[derive(Default)]
struct Entries {
    folders: Vec<PathBuf>,
    pictures: Vec<PathBuf>,
}

/// The search below one folder: what it passes over, it counts.
#[derive(Default)]
struct Walk {
    folders: usize,
    other_files: usize,
    unreadable: Vec<Error>,
}

impl Walk {
    /// Reads one folder. Links are followed; hidden folders are passed over in silence.
    fn entries(&mut self, folder: &Path) -> Result<Entries, Error> {
        let fail = |error| unreadable_folder(error, folder);
        let mut entries = Entries::default();
        for entry in fs::read_dir(folder).map_err(fail)? {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(error) => {
                    self.unreadable.push(fail(error));
                    continue;
                }
            };
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {
                    if !is_hidden(&path) {
                        entries.folders.push(path);
                    }
                }
                Ok(metadata)
                    if metadata.is_file()
                        && !is_hidden(&path)
                        && has_extension(&path, &EXTENSIONS) =>
                {
                    entries.pictures.push(path);
                }
                Ok(_) => self.other_files += 1,
                Err(error) => {
                    self.unreadable.push(Error::io("cannot read", error).at_path(path));
                }
            }
        }
        entries.folders.sort_unstable();
        entries.pictures.sort_unstable();
        Ok(entries)
    }

    /// Adds all pictures below `folder`. `above` are the folders on the way to it, without links: a link back to one of them
    /// is a circle and is not followed.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] when there are too many folders to go on; what concerns one folder is kept as `unreadable`.
    fn collect(
        &mut self,
        folder: &Path,
        above: &mut Vec<PathBuf>,
        pictures: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        self.folders += 1;
        if self.folders > MAX_FOLDERS {
            let message =
                format!("expected at most {MAX_FOLDERS} folders, those behind links included");
            return Err(Error::new(ErrorKind::Limit, message).at_path(folder));
        }
        let entries = if above.len() > MAX_DEPTH {
            let message = format!("folders are nested deeper than {MAX_DEPTH} levels");
            Err(Error::new(ErrorKind::Limit, message).at_path(folder))
        } else {
            self.enter(folder, above)
        };
        match entries {
            Ok(entries) => {
                pictures.extend(entries.pictures);
                for folder in entries.folders {
                    self.collect(&folder, above, pictures)?;
                }
                above.pop();
            }
            Err(error) => self.unreadable.push(error),
        }
        Ok(())
    }

    /// Reads `folder` and adds it to those `above`.
    fn enter(&mut self, folder: &Path, above: &mut Vec<PathBuf>) -> Result<Entries, Error> {
        let here = fs::canonicalize(folder).map_err(|error| unreadable_folder(error, folder))?;
        if above.contains(&here) {
            let message = "the folder is a link to one of those above it";
            return Err(Error::new(ErrorKind::Input, message).at_path(folder));
        }
        let entries = self.entries(folder)?;
        above.push(here);
        Ok(entries)
    }
}

fn unreadable_folder(error: std::io::Error, folder: &Path) -> Error {
    Error::io("cannot read the folder", error).at_path(folder)
}

fn list_csv(path: &Path) -> Result<Listing, Error> {
    let bytes = input_file::read(path, MAX_CSV_BYTES)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        at_line(line, "expected UTF-8 text: save the list as UTF-8").with_source(error)
    })?;
    let mut records = csv::Records::new(text);
    let header = records
        .next()
        .transpose()?
        .ok_or_else(|| at_line(1, "expected a header, found nothing"))?;
    let column = |name: &str| {
        let is_it = |field: &String| field.trim().eq_ignore_ascii_case(name);
        let first = header.fields.iter().position(is_it);
        if header.fields.iter().filter(|field| is_it(field)).count() > 1 {
            let message = format!("expected one column \"{name}\", found several");
            return Err(at_line(header.line, message));
        }
        Ok(first)
    };
    let file_column = column("file")?.ok_or_else(|| {
        at_line(
            header.line,
            format!(
                "expected a header with a column \"file\" (and perhaps \"label\"), separated by \
                 commas, found \"{}\"",
                header.fields.join(",")
            ),
        )
    })?;
    let label_column = column("label")?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut items = Vec::new();
    for record in records {
        let record = record?;
        if record.fields.len() != header.fields.len() {
            return Err(at_line(
                record.line,
                format!(
                    "expected {} fields as in the header, found {}: quote fields that contain commas",
                    header.fields.len(),
                    record.fields.len()
                ),
            ));
        }
        let file = record.fields[file_column].trim();
        if file.is_empty() {
            return Err(at_line(record.line, "expected a file name, found an empty field"));
        }
        let picture = folder.join(file);
        if !picture.is_file() {
            return Err(at_line(
                record.line,
                format!(
                    "there is no file \"{}\": names are relative to the list's own folder",
                    picture.display()
                ),
            ));
        }
        let label = label_column
            .map(|column| record.fields[column].trim())
            .filter(|label| !label.is_empty())
            .map(|label| {
                label.parse().map_err(|_| {
                    at_line(
                        record.line,
                        format!("expected a class index of 0 or more as label, found \"{label}\""),
                    )
                })
            })
            .transpose()?;
        items.push(Item { path: picture, label });
    }
    if items.is_empty() {
        return Err(Error::new(
            ErrorKind::Input,
            "expected at least one picture below the header, found none",
        ));
    }
    Ok(Listing { items, ..Listing::default() })
}

#[cfg(test)]
mod tests;
