//! The files that a report is made of, told apart by their names and by what is in them.

use std::path::Path;

use fresnel_kernels::Width;
use fresnel_runtime::csv::Records;
use fresnel_runtime::format::{Container, Encoding};
use fresnel_runtime::model::config::Role;
use fresnel_runtime::{Error, ErrorKind, input_file};
use serde_json::{Deserializer, Map, Value};

/// Longest file of results: half a million pictures with the answers of fifty models.
const MAX_BYTES: u64 = 1 << 28;

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Sources {
    /// Rows of `eval`, `bench` and `compare`, in the order of the files.
    pub rows: Vec<Row>,
    /// What the comparisons say about themselves.
    pub statements: Vec<String>,
    /// Reports of `quantize`.
    pub quantized: Vec<Row>,
    /// Predictions of `eval`.
    pub predictions: Vec<Predictions>,
    /// What model files say about themselves.
    pub models: Vec<ModelFile>,
}

/// Named values: a line of csv, or an object of JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row(pub Map<String, Value>);

impl Row {
    /// A number, where there is one of this name.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.as_f64()
    }

    /// A text, where there is one of this name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// The value of this name as it is printed, whole numbers without decimals; nothing for null.
    pub fn shown(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => {
                Some(other.as_f64().map_or_else(|| other.to_string(), |number| number.to_string()))
            }
        }
    }

    /// Whether this is a row of `bench`.
    pub fn is_speed(&self) -> bool {
        self.0.contains_key("infer_step_time")
    }

    /// Numbers by layer, from the list `layers`; names are those of layers, not of their weights.
    pub fn layers(&self, quantity: &str) -> Vec<(String, f64)> {
        let layers = self.0.get("layers").and_then(Value::as_array);
        let number = |layer: &Value| {
            let name = layer.get("name")?.as_str()?.trim_end_matches(".weight");
            Some((name.to_owned(), layer.get(quantity)?.as_f64()?))
        };
        layers.into_iter().flatten().filter_map(number).collect()
    }
}

/// The classes that models gave to pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predictions {
    /// Heading of each model and mode; the first is the baseline.
    pub names: Vec<String>,
    /// Label of each picture.
    pub labels: Vec<usize>,
    /// For each picture, the class that each model gave.
    pub classes: Vec<Vec<usize>>,
}

/// What a model file says.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    /// The file's name without its folder.
    pub name: String,
    /// Length of the file.
    pub bytes: u64,
    /// Names of the classes; may be empty.
    pub class_names: Vec<String>,
    /// Bits of each linear layer's weights, by its name: the patch embedding, the blocks, the head.
    pub bits: Vec<(String, f64)>,
    /// The recipe as pairs, but for its text as TOML.
    pub settings: Vec<(String, String)>,
}

impl Sources {
    /// Reads `files`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file can't be read, [`ErrorKind::Input`] when it is of no known kind or damaged.
    pub fn read(files: &[impl AsRef<Path>]) -> Result<Self, Error> {
        let mut sources = Self::default();
        for file in files {
            let file = file.as_ref();
            sources.add(file).map_err(|error| error.at_path(file))?;
        }
        if sources.rows.is_empty() {
            return Err(input("no file holds results: give what eval, bench or compare wrote"));
        }
        Ok(sources)
    }

    fn add(&mut self, file: &Path) -> Result<(), Error> {
        let extension = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "fresnel" => {
                self.models.push(ModelFile::read(file)?);
                Ok(())
            }
            "csv" => self.add_csv(&input_file::read_text(file, MAX_BYTES)?),
            "json" | "jsonl" => self.add_json(&input_file::read_text(file, MAX_BYTES)?),
            _ => Err(input(
                "expected results as .json, .jsonl or .csv, predictions as .csv, or a model as .fresnel",
            )),
        }
    }

    fn add_json(&mut self, text: &str) -> Result<(), Error> {
        for document in Deserializer::from_str(text).into_iter::<Value>() {
            let document = document
                .map_err(|error| Error::new(ErrorKind::Input, "no JSON").with_source(error))?;
            let Value::Object(mut object) = document else {
                return Err(input("expected JSON objects"));
            };
            if let Some(Value::Array(rows)) = object.remove("rows") {
                self.statements
                    .extend(object.get("statement").and_then(Value::as_str).map(str::to_owned));
                for row in rows {
                    let Value::Object(row) = row else {
                        return Err(input("expected rows of objects"));
                    };
                    self.add_row(Row(row))?;
                }
            } else if object.contains_key("bound_bytes") && object.contains_key("layers") {
                self.quantized.push(Row(object));
            } else {
                self.add_row(Row(object))?;
            }
        }
        Ok(())
    }

    fn add_csv(&mut self, text: &str) -> Result<(), Error> {
        let mut records = Records::new(text);
        let header = records.next().transpose()?.ok_or_else(|| input("the file is empty"))?.fields;
        let mut rows = Vec::new();
        for record in records {
            let record = record?;
            if record.fields.len() != header.len() {
                return Err(input(format!(
                    "line {}: expected {} fields as in the header, found {}",
                    record.line,
                    header.len(),
                    record.fields.len()
                )));
            }
            rows.push((record.line, record.fields));
        }
        if let [image, label, names @ ..] = header.as_slice()
            && image == "image"
            && label == "label"
        {
            self.predictions.push(Predictions::new(names, &rows)?);
            return Ok(());
        }
        for (_, fields) in rows {
            let values = fields.iter().map(|field| value(field));
            self.add_row(Row(header.iter().cloned().zip(values).collect()))?;
        }
        Ok(())
    }

    fn add_row(&mut self, row: Row) -> Result<(), Error> {
        let measured = ["top1", "agreement1", "infer_step_time"];
        if row.text("model").is_none() || !measured.iter().any(|name| row.0.contains_key(*name)) {
            return Err(input(
                "expected rows of eval, bench or compare, with columns `model` and `top1` or `infer_step_time`",
            ));
        }
        self.rows.push(row);
        Ok(())
    }
}

impl Predictions {
    fn new(names: &[String], rows: &[(usize, Vec<String>)]) -> Result<Self, Error> {
        let mut predictions =
            Self { names: names.to_vec(), labels: Vec::new(), classes: Vec::new() };
        for (line, fields) in rows {
            let classes: Option<Vec<usize>> =
                fields[1..].iter().map(|field| field.parse().ok()).collect();
            let Some([label, classes @ ..]) = classes.as_deref() else {
                return Err(input(format!("line {line}: expected the indices of classes")));
            };
            predictions.labels.push(*label);
            predictions.classes.push(classes.to_vec());
        }
        Ok(predictions)
    }
}

impl ModelFile {
    fn read(file: &Path) -> Result<Self, Error> {
        let container = Container::open(file)?;
        let manifest = container.manifest();
        let roles = manifest.config.tensors();
        let bits = |name: &str| {
            let entry = manifest.tensors.iter().find(|entry| entry.name == name)?;
            let bits = match entry.encoding {
                Encoding::F32 => 32.0,
                Encoding::F16 => 16.0,
                Encoding::Codes(width) => Width::from(width).label().parse().ok()?,
            };
            Some((name.trim_end_matches(".weight").to_owned(), bits))
        };
        let layers = roles.iter().filter(|spec| spec.role != Role::Other);
        let recipe = manifest.recipe.iter();
        Ok(Self {
            name: file_name(&file.to_string_lossy()).to_owned(),
            bytes: container.file_bytes(),
            class_names: manifest.class_names.clone(),
            bits: layers.filter_map(|spec| bits(&spec.name)).collect(),
            settings: recipe.filter(|(key, _)| key != "toml").cloned().collect(),
        })
    }
}

/// What stands behind the last separator of a path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The value that a field of a csv stands for.
fn value(field: &str) -> Value {
    match field {
        "" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        // Numbers are spelled alike in both; all else is text.
        _ => serde_json::from_str::<serde_json::Number>(field)
            .map_or_else(|_| Value::String(field.to_owned()), Value::Number),
    }
}

fn input(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Input, message)
}
