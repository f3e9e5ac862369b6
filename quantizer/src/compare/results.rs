//! What a comparison finds, as plain data: everything that its tables, files and figures show.

use fresnel_runtime::cli::results::{FLOAT, ModelFacts};
use fresnel_runtime::evaluation::Accuracy;

use crate::widths::StoredWidth;

/// A comparison, as far as it has come.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The model that all rows come from.
    pub model: ModelFacts,
    /// SHA-256 of its checkpoint.
    pub source_sha256: String,
    /// What the percentages are measured on.
    pub evaluation: Evaluation,
    /// The images that methods and layer errors look at.
    pub calibration: Option<Calibration>,
    /// Number of rows when it is finished.
    pub planned: usize,
    /// The float model first, then one row per method and width.
    pub rows: Vec<Row>,
}

/// What counts as right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// The label of an evaluation picture.
    Accuracy,
    /// The class that the float model puts first, on the calibration images: what can be said
    /// without labels.
    Agreement,
}

impl Metric {
    /// `accuracy` or `agreement`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Agreement => "agreement",
        }
    }

    /// Heading of the percentage of pictures whose right class comes first.
    pub fn first(self) -> &'static str {
        match self {
            Self::Accuracy => "top-1",
            Self::Agreement => "agree-1",
        }
    }

    /// Heading of the percentage of pictures whose right class is among the first five.
    pub fn fifth(self) -> &'static str {
        match self {
            Self::Accuracy => "top-5",
            Self::Agreement => "agree-5",
        }
    }
}

/// The pictures that the percentages are measured on.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// What counts as right.
    pub metric: Metric,
    /// Number of pictures.
    pub images: usize,
    /// SHA-256 over the SHA-256 of each picture's file, in order.
    pub sha256: String,
    /// Arithmetic of the activations that was asked for.
    pub compute: &'static str,
}

/// The images of the calibration.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Number of images.
    pub images: usize,
    /// As files record it.
    pub sha256: String,
}

/// One method at one width.
#[derive(Debug, Clone)]
pub struct Row {
    /// The method's name on the command line, or [`FLOAT`].
    pub method: String,
    /// Width of the blocks' linear layers.
    pub bits: StoredWidth,
    /// Whether the model was tuned after quantization.
    pub tuned: bool,
    /// The recipe as the file records it.
    pub settings: Vec<(String, String)>,
    /// The figures, or why there are none.
    pub outcome: Result<Figures, String>,
}

impl Row {
    /// Whether this is the float model.
    pub fn is_float(&self) -> bool {
        self.method == FLOAT
    }

    /// The figures, where the row did not fail.
    pub fn figures(&self) -> Option<&Figures> {
        self.outcome.as_ref().ok()
    }

    /// The method, and whether it was tuned: what distinguishes lines of one width.
    pub fn label(&self) -> String {
        if self.tuned { format!("{} + tuning", self.method) } else { self.method.clone() }
    }
}

/// What was measured of one model.
#[derive(Debug, Clone)]
pub struct Figures {
    /// How often it was right.
    pub accuracy: Accuracy,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// Seconds of quantization: forward passes, statistics and the choice of codes; none for the
    /// float model.
    pub seconds: Option<f64>,
    /// One entry per linear layer of the blocks.
    pub layers: Vec<LayerErrors>,
}

impl Figures {
    /// Mean over the layers of the error of their outputs; `None` where it was not measured.
    pub fn mean_layer_error(&self) -> Option<f64> {
        let errors = self.layers.iter().map(|layer| layer.output_error);
        let errors: Vec<f64> = errors.collect::<Option<_>>()?;
        (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64)
    }

    /// Mean over the layers of the method's own error after the initialization and after each sweep.
    /// Layers that converged early keep their last error.
    pub fn convergence(&self) -> Vec<f64> {
        let curves = || {
            let curves = self.layers.iter().map(|layer| &layer.error_per_sweep);
            curves.filter(|errors| !errors.is_empty())
        };
        let phases = curves().map(Vec::len).max().unwrap_or(0);
        let at = |phase: usize| {
            let sum: f64 = curves().map(|errors| errors[phase.min(errors.len() - 1)]).sum();
            sum / curves().count() as f64
        };
        (0..phases).map(at).collect()
    }
}

/// The errors of one linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerErrors {
    /// timm's name of the layer, such as `blocks.0.attn.qkv`.
    pub name: String,
    /// `||Y - Y^|| / ||Y||` of the layer's outputs in the float model and in this one.
    pub output_error: Option<f64>,
    /// The method's own objective after the initialization and after each sweep.
    pub error_per_sweep: Vec<f64>,
}

impl Comparison {
    /// The float model's row.
    pub fn float(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.is_float())
    }

    /// Rows of quantized models.
    pub fn quantized(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.is_float())
    }

    /// The float model's percentage less that of `row`, in points.
    pub fn drop(&self, row: &Row) -> Option<f64> {
        let top1 = |row: &Row| row.figures().map(|figures| figures.accuracy.top1());
        Some(top1(self.float()?)? - top1(row)?)
    }

    /// Rows that failed.
    pub fn failures(&self) -> impl Iterator<Item = (&Row, &str)> {
        self.rows.iter().filter_map(|row| Some((row, row.outcome.as_ref().err()?.as_str())))
    }

    /// Widths of the quantized rows, each once, narrowest first.
    pub fn widths(&self) -> Vec<StoredWidth> {
        let mut widths: Vec<StoredWidth> = Vec::new();
        for row in self.quantized() {
            if !widths.contains(&row.bits) {
                widths.push(row.bits);
            }
        }
        widths.sort_by(|a, b| a.bits().total_cmp(&b.bits()));
        widths
    }

    /// Labels of the quantized rows, each once, in the order of the rows.
    pub fn labels(&self) -> Vec<String> {
        let mut labels = Vec::new();
        for label in self.quantized().map(Row::label) {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        labels
    }

    /// What the percentages are, in one line.
    pub fn statement(&self) -> String {
        let Evaluation { metric, images, compute, .. } = &self.evaluation;
        match metric {
            Metric::Accuracy => format!(
                "Accuracy on {images} labelled pictures, none of them a calibration image; activations: {compute}."
            ),
            Metric::Agreement => format!(
                "No accuracy: agreement with the float model on the {images} calibration images themselves; activations: {compute}."
            ),
        }
    }
}
