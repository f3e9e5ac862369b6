use std::io::Write;

use super::{Isa, witness};
use crate::{
    Activation, Activations, Arithmetic, Epilogue, IsaError, Layout, Matrix, Pool, Rows, Width,
    matmul, ops, pack,
};

/// Reports which instruction sets the tests of this binary ran over (all that are available), and fails where
/// `FRESNEL_EXPECT_ISAS`, a comma-separated list, names one that was skipped.
#[test]
fn expected_instruction_sets_are_not_skipped() {
    let names = |isas: &[Isa]| isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
    let (run, skipped): (Vec<Isa>, Vec<Isa>) =
        Isa::ALL.into_iter().partition(|isa| isa.is_available());
    let mut line = format!("isas run: {}", names(&run));
    if !skipped.is_empty() {
        line += &format!(" / skipped: {} (not on this host)", names(&skipped));
    }
    // Past the capture of the test harness: a skip must be visible.
    writeln!(std::io::stdout(), "\n{line}").unwrap();
    if let Ok(expected) = std::env::var("FRESNEL_EXPECT_ISAS") {
        for name in expected.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let isa: Isa = name.parse().unwrap();
            assert!(run.contains(&isa), "{isa} was to be tested: {line}");
        }
    }
}

#[test]
fn names_are_read_back_and_others_refused() {
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse(), Ok(isa));
        assert_eq!(isa.to_string(), isa.name());
    }
    let unknown = "sse9".parse::<Isa>().unwrap_err();
    assert!(matches!(unknown, IsaError::Unknown { .. }));
    assert_eq!(
        unknown.to_string(),
        "unknown instruction set \"sse9\": expected one of scalar, avx2, avxvnni, avx512vnni, amx, neon, dotprod, i8mm"
    );
}

#[test]
fn tokens_belong_to_their_instruction_set() {
    for isa in Isa::available() {
        assert_eq!(isa.require().unwrap().isa(), isa);
    }
    assert!(Isa::available().contains(&Isa::best()));
    assert_eq!(Isa::available()[0], Isa::Scalar);
}

#[test]
fn the_environment_forces_an_instruction_set() {
    let set = |name: &str| Isa::from_setting(Some(name.as_ref()));
    assert_eq!(Isa::from_setting(None), Ok(Isa::best()));
    assert_eq!(set(""), Ok(Isa::best()));
    assert!(matches!(set("AVX2"), Err(IsaError::Unknown { .. })));
    for isa in Isa::ALL {
        if isa.is_available() {
            assert_eq!(set(isa.name()), Ok(isa));
        } else {
            let error = set(isa.name()).unwrap_err();
            assert!(error.to_string().contains("choose one of scalar"), "{error}");
        }
    }
}

/// The micro-kernel that multiplies in an arithmetic, and the name that generic code compiled for the instruction set notes.
fn expected(isa: Isa, arithmetic: Arithmetic) -> [&'static str; 2] {
    let (code, float, integer) = match isa {
        Isa::Scalar => ("scalar code", "scalar f32", "scalar int8"),
        Isa::Avx2 => ("avx2 code", "avx2 f32", "avx2 int8"),
        Isa::AvxVnni => ("avxvnni code", "avx2 f32", "avxvnni int8"),
        Isa::Avx512Vnni => ("avx512 code", "avx512 f32", "avx512 int8"),
        Isa::Amx => ("amx code", "avx512 f32", "amx tdpbsud"),
        Isa::Neon => ("neon code", "neon f32", "neon int8"),
        Isa::Dotprod => ("dotprod code", "neon f32", "dotprod int8"),
        Isa::I8mm => ("i8mm code", "neon f32", "i8mm int8"),
    };
    match arithmetic {
        Arithmetic::F32 => [code, float],
        Arithmetic::Half => [code, "amx tdpbf16ps"],
        Arithmetic::Int8 => [code, integer],
    }
}

/// Every forced instruction set runs the micro-kernels that are its own and no others, in products of every width and in the
/// operations between them.
#[test]
fn forced_instruction_sets_run_their_own_micro_kernels() {
    let (m, n, k) = (37, 70, 100);
    let values: Vec<f32> = (0..m * k).map(|index| (index % 13) as f32 - 6.0).collect();
    let sorted = |mut names: Vec<&'static str>| {
        names.sort_unstable();
        names
    };
    for isa in Isa::available() {
        // One thread, which is this one.
        let pool = Pool::with_isa(1, isa).unwrap();
        let mut matrices = vec![Matrix::from_f32(isa, n, k, &vec![0.5; n * k]).unwrap()];
        matrices.push(Matrix::from_f16(isa, n, k, &vec![half::f16::ONE; n * k]).unwrap());
        for width in Width::ALL {
            let packed = pack::pack(width, n, k, &vec![2; n * k]).unwrap();
            let ones = vec![1.0; n];
            matrices.push(Matrix::from_codes(isa, width, n, k, &packed, &ones, &ones).unwrap());
        }
        for arithmetic in Arithmetic::ALL.into_iter().filter(|&one| isa.supports(one)) {
            let [code, kernel] = expected(isa, arithmetic);
            let mut activations = Activations::new();
            let mut out = vec![0.0; m * n];
            witness::take();
            activations.pack(
                &pool,
                arithmetic,
                &Rows::Plain { values: &values, columns: k, layout: Layout::Rows },
            );
            assert_eq!(witness::take(), [code], "packing, {isa} {arithmetic:?}");
            for matrix in matrices.iter().filter(|matrix| matrix.supports(arithmetic)) {
                matmul(&pool, &activations, matrix, &Epilogue::default(), &mut out);
                let name = matrix.kernel_name(arithmetic);
                assert_eq!(witness::take(), sorted(vec![code, kernel]), "{name}");
            }
        }
        let [code, float] = expected(isa, Arithmetic::F32);
        let mut x = values.clone();
        ops::gelu(&pool, Activation::GeluErf, &mut x);
        assert_eq!(witness::take(), [code], "gelu, {isa}");
        ops::layer_norm(&pool, &values, &vec![1.0; k], &vec![0.0; k], 1e-6, &mut x);
        assert_eq!(witness::take(), [code], "layer norm, {isa}");
        ops::softmax_rows(&pool, &mut x, m, k);
        assert_eq!(witness::take(), [code], "softmax, {isa}");
        let mut attended = vec![0.0; 10 * 30];
        let shape = ops::AttentionShape {
            batch: 1,
            tokens: 10,
            heads: 3,
            head_dim: 10,
            layout: Layout::Rows,
        };
        ops::attention(&pool, &shape, &values[..3 * 10 * 30], &mut attended);
        assert_eq!(witness::take(), sorted(vec![code, float]), "attention, {isa}");
        let mut attended = vec![half::f16::ZERO; 10 * 30];
        ops::integer_attention(&pool, &shape, &[half::f16::ONE; 3 * 10 * 30], &mut attended);
        let [_, integer] = expected(isa, Arithmetic::Int8);
        assert_eq!(witness::take(), sorted(vec![code, integer]), "integer attention, {isa}");
    }
}
