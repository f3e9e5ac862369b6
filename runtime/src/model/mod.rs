//! Models: a config, its weights laid out for this machine, and what the file says about them.

pub mod class_names;
pub mod config;
pub mod decoded;
pub(crate) mod weights;

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use fresnel_kernels::{Arithmetic, Isa};

use crate::device::Device;
use crate::error::{Error, ErrorKind};
use crate::exec::Sizes;
use crate::format::reader::{Contents, Reader};
use crate::format::{Container, Manifest, Preprocessing};
use crate::image::Preprocessor;
use config::VitConfig;
use weights::{Linear, Placement, Weights};

/// A loaded model: immutable, shared between threads by `Arc`, run by one
/// [`Session`](crate::Session) per thread.
///
/// The weights lie where they are used: in the host's memory, laid out for the instruction set that was found, or
/// forced with the environment variable `FRESNEL_ISA`, or in that of a GPU ([`Model::open_on`]). Matrices stay at their
/// width there (ternary codes may be widened to two bits).
pub struct Model {
    manifest: Manifest,
    placed: Placed,
    file_bytes: u64,
    /// The fastest arithmetic, as far as it was timed: by number of threads, and by those that took part
    /// beside `f32`.
    timings: Mutex<HashMap<(usize, Vec<Arithmetic>), Arithmetic>>,
}

/// The weights, where they lie.
#[derive(Clone)]
pub(crate) enum Placed {
    /// In the host's memory.
    Cpu(Arc<Weights>),
    /// In a GPU's memory.
    #[cfg(feature = "gpu")]
    Gpu(Arc<Weights<weights::Gpu>>),
}

const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Model>();
};

impl Model {
    /// Loads a `.fresnel` file.
    ///
    /// Every tensor is checked and laid out while it is read, a piece at a time: memory is needed for the model
    /// ([`resident_bytes`](Self::resident_bytes)), not for the file beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file cannot be read, another kind when it is not a valid model (see
    /// [`Container::open`]), [`ErrorKind::Unsupported`] when `FRESNEL_ISA` names an instruction set that
    /// is unknown or that this machine lacks.
    pub fn open(path: impl AsRef<Path>) -> Result<Arc<Self>, Error> {
        Self::open_on(path, &Device::Cpu)
    }

    /// Loads a `.fresnel` file onto a device, which all sessions on the model run on.
    ///
    /// # Errors
    /// As [`Model::open`]; on a GPU [`ErrorKind::Device`] when its memory does not suffice or it was lost,
    /// [`ErrorKind::Limit`] when a tensor is larger than it permits.
    pub fn open_on(path: impl AsRef<Path>, device: &Device) -> Result<Arc<Self>, Error> {
        let path = path.as_ref();
        let read = |reader| Self::read(reader, device);
        Reader::open(path).and_then(read).map_err(|error| error.at_path(path))
    }

    /// Loads a model from the bytes of a `.fresnel` file.
    ///
    /// # Errors
    /// As [`Model::open`], but for reading.
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Arc<Self>, Error> {
        Self::from_bytes_on(bytes, &Device::Cpu)
    }

    /// Loads a model from the bytes of a `.fresnel` file onto a device.
    ///
    /// # Errors
    /// As [`Model::open_on`], but for reading.
    pub fn from_bytes_on(bytes: impl AsRef<[u8]>, device: &Device) -> Result<Arc<Self>, Error> {
        Self::read(Reader::from_bytes(bytes.as_ref())?, device)
    }

    /// Lays out the weights of a container that was read before; its bytes are not needed afterwards.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a bad `FRESNEL_ISA`, [`ErrorKind::Invalid`] for weights that no
    /// kernel can take.
    pub fn from_container(container: &Container) -> Result<Arc<Self>, Error> {
        Self::from_container_on(container, &Device::Cpu)
    }

    /// As [`Model::from_container`], onto a device.
    ///
    /// # Errors
    /// As [`Model::open_on`], but for reading.
    pub fn from_container_on(container: &Container, device: &Device) -> Result<Arc<Self>, Error> {
        Self::read(container.reader(), device)
    }

    /// Reads the tensors, and lays each out before the next is read.
    fn read<R: Read + Seek>(mut reader: Reader<R>, device: &Device) -> Result<Arc<Self>, Error> {
        let placed = match device {
            Device::Cpu => {
                let isa = Isa::from_env().map_err(|error| {
                    Error::new(ErrorKind::Unsupported, "cannot choose an instruction set")
                        .with_source(error)
                })?;
                Placed::Cpu(Arc::new(Weights::read(&mut reader, weights::Cpu { isa })?))
            }
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => {
                Placed::Gpu(Arc::new(Weights::read(&mut reader, weights::Gpu::new(gpu))?))
            }
        };
        let Contents { manifest, file_bytes, .. } = reader.finish()?;
        Ok(Arc::new(Self { manifest, placed, file_bytes, timings: Mutex::default() }))
    }

    /// Everything that the file says about the model.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &VitConfig {
        &self.manifest.config
    }

    /// Shape of one image: channels, height, width.
    pub fn input_shape(&self) -> [usize; 3] {
        let sizes = Sizes::new(self.config());
        [sizes.channels, sizes.height, sizes.width]
    }

    /// Numbers that come out for one image: logits, or features of a model without classes.
    pub fn output_len(&self) -> usize {
        self.config().output_features() as usize
    }

    /// How a picture becomes the model's input.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.manifest.preprocessing
    }

    /// How a picture becomes the model's input, ready to run.
    ///
    /// # Errors
    /// As [`Preprocessor::new`].
    pub fn preprocessor(&self) -> Result<Preprocessor, Error> {
        Preprocessor::new(self.preprocessing(), self.config().in_channels)
    }

    /// Names of the classes in the order of the logits; empty when the file has none.
    pub fn class_names(&self) -> &[String] {
        &self.manifest.class_names
    }

    /// Name of the class with this index, where the file has one.
    pub fn class_name(&self, class: usize) -> Option<&str> {
        self.class_names().get(class).map(String::as_str)
    }

    /// A value that was measured when the file was made, such as `int8_agreement`.
    pub fn measured(&self, name: &str) -> Option<f64> {
        self.manifest.measured(name)
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes that the weights occupy in the memory of their device: packed matrices, vectors in `f32`.
    pub fn resident_bytes(&self) -> usize {
        match &self.placed {
            Placed::Cpu(weights) => weights.resident_bytes(),
            #[cfg(feature = "gpu")]
            Placed::Gpu(weights) => weights.resident_bytes(),
        }
    }

    /// The instruction set that the weights are laid out for; `None` on a GPU.
    pub fn isa(&self) -> Option<Isa> {
        match &self.placed {
            Placed::Cpu(weights) => Some(weights.placement.isa),
            #[cfg(feature = "gpu")]
            Placed::Gpu(_) => None,
        }
    }

    /// The device that holds the weights.
    pub fn device(&self) -> Device {
        match &self.placed {
            Placed::Cpu(_) => Device::Cpu,
            #[cfg(feature = "gpu")]
            Placed::Gpu(weights) => Device::Gpu(weights.placement.device().clone()),
        }
    }

    /// Every linear layer with the kernel that runs it in float arithmetic and the one that runs it in
    /// integer arithmetic, in the order of the forward pass.
    pub fn kernels(&self) -> Vec<LayerKernels> {
        fn layers<P: Placement>(
            weights: &Weights<P>,
            kernel: impl Fn(&P::Matrix, Arithmetic) -> String,
        ) -> Vec<LayerKernels> {
            let layer = |(name, linear): (String, &Linear<P>)| LayerKernels {
                layer: name,
                float: kernel(&linear.weight, Arithmetic::F32),
                integer: kernel(&linear.weight, Arithmetic::Int8),
                resident_bytes: P::matrix_bytes(&linear.weight),
            };
            weights.linears().into_iter().map(layer).collect()
        }
        match &self.placed {
            Placed::Cpu(weights) => layers(weights, weights::cpu_kernel),
            #[cfg(feature = "gpu")]
            Placed::Gpu(weights) => {
                let kernel = |weight: &_, arithmetic| weights.placement.kernel(weight, arithmetic);
                layers(weights, kernel)
            }
        }
    }

    /// Whether any layer is multiplied in `arithmetic`.
    pub(crate) fn supports(&self, arithmetic: Arithmetic) -> bool {
        match &self.placed {
            Placed::Cpu(weights) => weights.supports(arithmetic),
            #[cfg(feature = "gpu")]
            Placed::Gpu(weights) => weights.supports(arithmetic),
        }
    }

    pub(crate) fn placed(&self) -> &Placed {
        &self.placed
    }

    /// The fastest of `f32` and `others` with `threads` threads: `time` is called once for each choice.
    pub(crate) fn fastest(
        &self,
        threads: usize,
        others: &[Arithmetic],
        time: impl FnOnce() -> Result<Arithmetic, Error>,
    ) -> Result<Arithmetic, Error> {
        // The lock is held while timing, so that concurrent sessions do not disturb the figures.
        let mut timings = self.timings.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (threads, others.to_vec());
        if let Some(&arithmetic) = timings.get(&key) {
            return Ok(arithmetic);
        }
        let arithmetic = time()?;
        timings.insert(key, arithmetic);
        Ok(arithmetic)
    }
}

/// The kernels of one linear layer, see [`Model::kernels`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerKernels {
    /// Name of the layer, as in the file without `.weight`.
    pub layer: String,
    /// Kernel for float activations.
    pub float: String,
    /// Kernel for 8-bit activations; the float kernel where the layer has no integer one.
    pub integer: String,
    /// Bytes of the layer's matrix in memory.
    pub resident_bytes: usize,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("architecture", &self.config().architecture)
            .field("device", &self.device())
            .field("file_bytes", &self.file_bytes)
            .finish_non_exhaustive()
    }
}
