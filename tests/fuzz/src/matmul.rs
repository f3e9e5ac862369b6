//! Products on every instruction set against those of the portable kernels.

use arbitrary::{Result, Unstructured};
use fresnel_kernels::{
    Activation, Activations, Arithmetic, Epilogue, Isa, Layout, Matrix, Pool, Rows, Width,
    matmul as multiply, pack,
};

/// Multiplies a matrix of any shape, width and values by any activations, on every instruction set of the machine.
///
/// # Panics
/// When a kernel does, or when float or integer products differ from the portable ones in a single bit.
pub fn matmul(bytes: &[u8]) {
    let _ = compare(&mut Unstructured::new(bytes));
}

struct Operands {
    width: Width,
    rows: usize,
    outputs: usize,
    inputs: usize,
    packed: Vec<u8>,
    scale: Vec<f32>,
    offset: Vec<f32>,
    activations: Vec<f32>,
    bias: Vec<f32>,
    activation: Option<Activation>,
}

fn compare(u: &mut Unstructured<'_>) -> Result<()> {
    let operands = operands(u)?;
    for arithmetic in Arithmetic::ALL {
        let expected = product(&operands, Isa::Scalar, arithmetic);
        for isa in Isa::available() {
            let found = product(&operands, isa, arithmetic);
            // Half precision adds in the hardware's order, and the portable kernels lack it.
            let (Some(expected), Some(found)) = (&expected, found) else { continue };
            if arithmetic == Arithmetic::Half {
                continue;
            }
            for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
                assert!(
                    expected.to_bits() == found.to_bits() || (expected.is_nan() && found.is_nan()),
                    "{isa} {arithmetic:?} {:?} {} x {} x {}: {found:e} at {index}, expected {expected:e}",
                    operands.width,
                    operands.rows,
                    operands.outputs,
                    operands.inputs,
                );
            }
        }
    }
    Ok(())
}

fn operands(u: &mut Unstructured<'_>) -> Result<Operands> {
    let width = *u.choose(&Width::ALL)?;
    let rows = u.int_in_range(1..=70)?;
    let outputs = u.int_in_range(1..=70)?;
    let inputs = u.int_in_range(1..=140)?;
    let seed: [u8; 4] = u.arbitrary()?;
    let gelus = [Activation::GeluErf, Activation::GeluTanh, Activation::QuickGelu];
    let activation = if u.arbitrary()? { Some(*u.choose(&gelus)?) } else { None };
    // A shape needs thousands of numbers: the first ones come from the fuzzer, the others repeat its seed.
    let mut state = u32::from_le_bytes(seed) | 1;
    let mut next = move || {
        state = state.wrapping_mul(0x2c92_77b5).wrapping_add(0xac56_4b05);
        state >> 8
    };
    let mut codes: Vec<u8> =
        (0..outputs * inputs).map(|_| (next() % width.levels()) as u8).collect();
    let mut floats = |count: usize, range: f32| -> Vec<f32> {
        (0..count).map(|_| (next() as f32 / (1 << 23) as f32 - 1.0) * range).collect()
    };
    let mut scale: Vec<f32> = floats(outputs, 0.1).into_iter().map(f32::abs).collect();
    let mut offset = floats(outputs, 1.0);
    let mut activations = floats(rows * inputs, 4.0);
    let bias = floats(outputs, 1.0);
    for _ in 0..u.int_in_range(0..=8)? {
        let value: f32 = u.arbitrary()?;
        match u.int_in_range(0..=3)? {
            0 => *place(u, &mut activations)? = value,
            1 if value.is_finite() => *place(u, &mut offset)? = value,
            2 if value.is_finite() => *place(u, &mut scale)? = value.abs(),
            _ => *place(u, &mut codes)? = (width.levels() - 1) as u8,
        }
    }
    let packed = pack::pack(width, outputs, inputs, &codes).expect("valid codes");
    Ok(Operands {
        width,
        rows,
        outputs,
        inputs,
        packed,
        scale,
        offset,
        activations,
        bias,
        activation,
    })
}

fn place<'a, T>(u: &mut Unstructured<'_>, values: &'a mut [T]) -> Result<&'a mut T> {
    let at = u.choose_index(values.len())?;
    Ok(&mut values[at])
}

/// The product on `isa`; nothing where it has none in this arithmetic.
fn product(operands: &Operands, isa: Isa, arithmetic: Arithmetic) -> Option<Vec<f32>> {
    let Operands { width, rows, outputs, inputs, .. } = *operands;
    let Operands { packed, scale, offset, .. } = operands;
    let matrix =
        Matrix::from_codes(isa, width, outputs, inputs, packed, scale, offset).expect("a matrix");
    if !matrix.supports(arithmetic) {
        return None;
    }
    let pool = Pool::with_isa(1, isa).expect("one thread");
    let mut packed = Activations::new();
    let values = &operands.activations;
    packed.pack(&pool, arithmetic, &Rows::Plain { values, columns: inputs, layout: Layout::Rows });
    let epilogue = Epilogue {
        bias: Some(&operands.bias),
        activation: operands.activation,
        ..Epilogue::default()
    };
    let mut out = vec![0.0; rows * outputs];
    multiply(&pool, &packed, &matrix, &epilogue, &mut out);
    Some(out)
}
