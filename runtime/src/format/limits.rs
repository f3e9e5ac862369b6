//! Every cap that the reader enforces, in one place.
//!
//! The caps bound what a hostile file can make a reader allocate or compute *before* its content is
//! known to be consistent; each leaves an order of magnitude of room beyond the largest published Vision
//! Transformer (ViT-G/14: width 1664, depth 48, 16 heads, 7 GB in 32 bit). The writer goes through the
//! same checks, so that nothing is ever written that cannot be read back.

/// Longest file: 64 GiB.
pub const MAX_FILE_BYTES: u64 = 1 << 36;
/// Longest manifest: 1 MiB.
pub const MAX_MANIFEST_BYTES: u32 = 1 << 20;
/// Most entries of the tensor table.
pub const MAX_TENSORS: usize = 4096;
/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 4;
/// Largest dimension of a tensor.
pub const MAX_DIMENSION: u32 = 1 << 24;
/// Longest tensor name, key or architecture name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest class name, in bytes of UTF-8.
pub const MAX_CLASS_NAME_BYTES: usize = 512;
/// Most class names.
pub const MAX_CLASS_NAMES: usize = 1 << 16;
/// Longest value of a recipe, provenance or metadata pair, in bytes of UTF-8.
pub const MAX_VALUE_BYTES: usize = 1 << 16;
/// Most pairs of the recipe, the provenance and the measured list, each.
pub const MAX_PAIRS: usize = 256;
/// Most metadata pairs.
pub const MAX_METADATA_PAIRS: usize = 64;
/// Most extension records that a later minor version may put behind the manifest.
pub const MAX_EXTENSIONS: usize = 64;
/// What reading a file may allocate beyond what is made of its data ([`Container`](super::Container): the
/// file's own length, [`Model`](crate::Model): its resident bytes): the encoded manifest, its decoded form
/// (a string of one byte becomes a 24-byte header and an allocation), the index of tensor names, the tensor
/// set that the configuration demands, and the piece of a tensor that is being read.
pub const MAX_READER_OVERHEAD_BYTES: u64 = 16 << 20;

/// Largest image side, in pixels.
pub const MAX_IMAGE_SIDE: u32 = 8192;
/// Largest patch side, in pixels.
pub const MAX_PATCH_SIDE: u32 = 256;
/// Largest embedding width.
pub const MAX_EMBED_DIM: u32 = 1 << 14;
/// Largest hidden width of the MLP.
pub const MAX_MLP_HIDDEN: u32 = 1 << 17;
/// Most blocks: with all 26 tensors of a block stored, the tensor table still fits.
pub const MAX_DEPTH: u32 = 128;
/// Most attention heads.
pub const MAX_HEADS: u32 = 1024;
/// Most register tokens.
pub const MAX_REGISTER_TOKENS: u32 = 1024;
/// Most tokens (patches and prefix tokens together).
pub const MAX_TOKENS: u32 = 1 << 15;
/// Most classes.
pub const MAX_CLASSES: u32 = 1 << 20;
/// Smallest crop fraction: below it an image would be enlarged beyond any use before its middle is cut out.
pub const MIN_CROP_PCT: f32 = 0.1;
/// Smallest standard deviation of the pixel normalisation, as a fraction of the full range.
pub const MIN_PIXEL_STD: f32 = 1e-4;
/// Largest magnitude of the pixel normalisation's mean and standard deviation.
pub const MAX_PIXEL_STATISTIC: f32 = 1e4;
