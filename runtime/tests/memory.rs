//! What loading a file allocates: no more than what is made of it and a stated constant, whatever the file says.
#![allow(unsafe_code)]

mod fixture;

use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use fresnel_kernels::{Width, pack};
use fresnel_runtime::format::header::Header;
use fresnel_runtime::format::limits::{MAX_READER_OVERHEAD_BYTES, MAX_TENSORS};
use fresnel_runtime::format::{
    CodeWidth, Container, CropMode, Encoding, Interpolation, Manifest, ManifestParts,
    Preprocessing, TensorData, TensorEntry, encode,
};
use fresnel_runtime::model::config::{Role, VitConfig};
use fresnel_runtime::{Error, ErrorKind, Model};

/// What an ordinary model may take beyond itself: its manifest, a piece of a tensor, scales and offsets of one.
const ORDINARY_OVERHEAD: usize = 1 << 20;

/// The system's allocator, which counts the bytes in use and the most there were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(in_use, Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; `memory` came from the system's allocator with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One measurement at a time: the counts are those of the whole process.
static MEASURING: Mutex<()> = Mutex::new(());

/// What `load` makes, and the most bytes that were in use beyond those in use before.
fn measure<T>(load: impl FnOnce() -> T) -> (T, usize) {
    let before = IN_USE.load(Relaxed);
    MOST.store(before, Relaxed);
    let made = load();
    (made, MOST.load(Relaxed).saturating_sub(before))
}

fn config() -> VitConfig {
    VitConfig {
        architecture: "memory".into(),
        image_size: [32, 32],
        embed_dim: 512,
        depth: 3,
        num_heads: 8,
        mlp_hidden: 2048,
        num_classes: 100,
        ..fixture::deit_tiny()
    }
}

fn parts(config: VitConfig) -> ManifestParts {
    ManifestParts {
        preprocessing: Preprocessing {
            input_size: config.image_size,
            crop_pct: 0.9,
            crop_mode: CropMode::Center,
            interpolation: Interpolation::Bicubic,
            mean: [0.5; 3],
            std: [0.5; 3],
        },
        config,
        class_names: Vec::new(),
        recipe: Vec::new(),
        provenance: Vec::new(),
        measured: Vec::new(),
        metadata: Vec::new(),
    }
}

/// A file of which all weights are stored as `encoding`.
fn file(encoding: Encoding) -> Vec<u8> {
    let config = config();
    let mut tensors = Vec::new();
    for spec in config.tensors() {
        let count: usize = spec.shape.iter().map(|&size| size as usize).product();
        let encoding = if spec.role == Role::Other { Encoding::F16 } else { encoding };
        let bytes = match encoding {
            Encoding::F32 => vec![0; 4 * count],
            Encoding::F16 => vec![0; 2 * count],
            Encoding::Codes(width) => {
                let rows = spec.shape[0] as usize;
                for suffix in ["scale", "offset"] {
                    tensors.push(TensorData {
                        name: format!("{}.{suffix}", spec.name),
                        shape: spec.shape[..1].to_vec(),
                        encoding: Encoding::F16,
                        bytes: Cow::Owned(vec![0; 2 * rows]),
                    });
                }
                pack::pack(Width::from(width), rows, count / rows, &vec![1; count]).unwrap()
            }
        };
        tensors.push(TensorData {
            name: spec.name,
            shape: spec.shape,
            encoding,
            bytes: Cow::Owned(bytes),
        });
    }
    encode(&parts(config), &tensors).unwrap()
}

#[test]
fn a_model_takes_its_own_size_and_little_more() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.fresnel");
    let widths = Width::ALL.map(|width| Encoding::Codes(CodeWidth::from(width)));
    for encoding in widths.into_iter().chain([Encoding::F16, Encoding::F32]) {
        let file = file(encoding);
        std::fs::write(&path, &file).unwrap();
        let loads: [(&str, &dyn Fn() -> usize); 2] = [
            ("bytes", &|| Model::from_bytes(&file).unwrap().resident_bytes()),
            ("file", &|| Model::open(&path).unwrap().resident_bytes()),
        ];
        for (from, load) in loads {
            let (resident, most) = measure(load);
            let limit = resident.max(file.len()) + ORDINARY_OVERHEAD;
            println!(
                "{encoding:?} from {from}: {} bytes, {resident} resident, {most} at most",
                file.len()
            );
            assert!(most <= limit, "{encoding:?} from {from}: {most} bytes, at most {limit}");
            // The bound would not tell two copies from one if the model were small.
            assert!(resident > 2 * ORDINARY_OVERHEAD && most >= resident);
        }
        let (_, most) = measure(|| Container::open(&path).unwrap());
        assert!(most <= file.len() + ORDINARY_OVERHEAD, "{encoding:?} held: {most} bytes");
    }
}

/// A file of `manifest`, with a header that states `data_len` bytes of data, and without those.
fn front(manifest: &[u8], data_len: u64) -> Vec<u8> {
    let header = Header {
        minor: 0,
        flags: 0,
        manifest_len: manifest.len() as u32,
        manifest_crc32: crc32fast::hash(manifest),
        data_len,
    };
    let mut file = header.encode().to_vec();
    file.extend_from_slice(manifest);
    file.resize(header.data_offset() as usize, 0);
    file
}

fn refusal(bytes: &[u8]) -> (Error, usize) {
    let (error, most) = measure(|| Model::from_bytes(bytes).unwrap_err());
    let (again, container) = measure(|| Container::from_bytes(bytes).unwrap_err());
    assert_eq!(error.kind(), again.kind());
    (error, most.max(container))
}

fn manifest(config: VitConfig, tensors: Vec<TensorEntry>, class_names: Vec<String>) -> Manifest {
    let parts = parts(config);
    Manifest {
        config: parts.config,
        preprocessing: parts.preprocessing,
        tensors,
        class_names,
        recipe: Vec::new(),
        provenance: Vec::new(),
        measured: Vec::new(),
        metadata: Vec::new(),
    }
}

#[test]
fn lengths_that_are_only_stated_cost_nothing() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    // A header alone that states 60 GiB, a manifest of a megabyte, or both.
    for (manifest_len, data_len) in [(1, 60 << 30), (1 << 20, 0), (1 << 20, 60 << 30)] {
        let header =
            Header { minor: 0, flags: 0, manifest_len, manifest_crc32: 0, data_len }.encode();
        let (error, most) = refusal(&header);
        assert_eq!(error.kind(), ErrorKind::Truncated);
        assert!(most < 4096, "{most} bytes");
    }
    // A tensor of 2^62 bytes in an otherwise sound manifest.
    let huge = TensorEntry {
        name: "norm.bias".into(),
        shape: vec![1 << 20, 1 << 20, 1 << 20],
        encoding: Encoding::F32,
        offset: 0,
        length: 1 << 62,
        crc32: 0,
    };
    let manifest = postcard::to_allocvec(&manifest(config(), vec![huge], Vec::new())).unwrap();
    let (error, most) = refusal(&front(&manifest, 0));
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(most < ORDINARY_OVERHEAD, "{most} bytes");
}

#[test]
fn manifests_that_decode_to_much_stay_within_the_overhead() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let within = |what: &str, manifest: &[u8]| {
        assert!(manifest.len() <= 1 << 20, "{what}: {} bytes", manifest.len());
        let (error, most) = refusal(&front(manifest, 0));
        println!("{what}: {most} bytes at most ({:?})", error.kind());
        assert!(most as u64 <= MAX_READER_OVERHEAD_BYTES, "{what}: {most} bytes");
    };
    // Many names of a byte, each of which takes an allocation and a string's three words.
    let names = manifest(config(), Vec::new(), vec!["n".into(); 1 << 16]);
    within("class names", &postcard::to_allocvec(&names).unwrap());
    // As many tensors as may be, each of them unexpected, or a repetition.
    for repeated in [false, true] {
        let tensor = |index: usize| TensorEntry {
            name: if repeated { "cls_token".into() } else { format!("{index:0>128}") },
            shape: vec![1],
            encoding: Encoding::Codes(CodeWidth::Ternary),
            offset: u64::MAX,
            length: 1,
            crc32: u32::MAX,
        };
        let tensors = (0..MAX_TENSORS).map(tensor).collect();
        let tensors = manifest(config(), tensors, vec!["n".into(); 1 << 16]);
        within("tensors", &postcard::to_allocvec(&tensors).unwrap());
    }
    // A million tensors are stated, each of which takes six bytes of the manifest and a hundred in memory; and a tensor that
    // states a shape of 2^32 dimensions.
    let sound = manifest(config(), Vec::new(), Vec::new());
    let before = postcard::to_allocvec(&(&sound.config, &sound.preprocessing)).unwrap();
    let list = |count: u32, element: &[u8]| {
        let count = postcard::to_allocvec(&count).unwrap();
        let mut bytes = [&before[..], &count].concat();
        while bytes.len() + element.len() <= 1 << 20 {
            bytes.extend_from_slice(element);
        }
        bytes
    };
    within("a million tensors", &list(1_000_000, &[0; 6]));
    within("a million shapes", &list(1_000_000, &[1, b'n', 4, 1, 1, 1, 1, 0, 0, 0, 0]));
    within("a shape of 2^32", &list(1, &[1, b'n', 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1, 1]));
    // The deepest model with every tensor missing.
    let deepest = VitConfig { depth: 128, layer_scale: true, qk_norm: true, ..config() };
    within("missing", &postcard::to_allocvec(&manifest(deepest, Vec::new(), Vec::new())).unwrap());
    // Lists that state more elements than there are bytes.
    within("stated", &[0xff; 1 << 20]);
    within("zeros", &[0; 1 << 20]);
}

/// A file that really is as long as it states, but has nothing in it.
#[cfg(target_os = "linux")]
#[test]
fn a_hollow_file_is_refused_at_its_first_tensor() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let config = VitConfig { embed_dim: 1 << 14, num_classes: 1 << 18, ..config() };
    let (mut entries, mut end) = (Vec::new(), 0_u64);
    for spec in config.tensors() {
        let offset = end.next_multiple_of(64);
        let length = 4 * spec.shape.iter().map(|&size| u64::from(size)).product::<u64>();
        end = offset + length;
        entries.push(TensorEntry {
            name: spec.name,
            shape: spec.shape,
            encoding: Encoding::F32,
            offset,
            length,
            crc32: 1,
        });
    }
    assert!(end > 16 << 30);
    let manifest = postcard::to_allocvec(&manifest(config, entries, Vec::new())).unwrap();
    let front = front(&manifest, end);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hollow.fresnel");
    std::fs::write(&path, &front).unwrap();
    let hollow = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    hollow.set_len(front.len() as u64 + end).unwrap();
    let (error, most) = measure(|| Model::open(&path).unwrap_err());
    assert_eq!((error.kind(), error.tensor()), (ErrorKind::Corrupt, Some("cls_token")));
    assert!(most < ORDINARY_OVERHEAD, "{most} bytes");
}
