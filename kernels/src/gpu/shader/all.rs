//! Every shader, for tools that check their texts.

use crate::{Activation, Width};

use super::{
    ActivationKind, CooperativeTiling, Element, EpilogueKind, MatmulShader, Matrices, OutputKind,
    ParameterSpace, ResidualKind, TileSize, Tiling, WeightKind, operations,
};

/// A shader and what it needs.
#[derive(Clone, Debug)]
pub struct Shader {
    /// Its name, with what sets it apart.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Whether it has cooperative matrices, which only some shading languages know.
    pub cooperative: bool,
}

/// Every shader of this crate: all kernels, widths, tiles and numbers, and each part of an epilogue with one of them.
pub fn all() -> Vec<Shader> {
    let spaces = [ParameterSpace::Immediate, ParameterSpace::Uniform];
    let mut shaders = Vec::new();
    for (index, shader) in matmul_shaders().into_iter().enumerate() {
        let space = spaces[index % 2];
        for size in TileSize::ALL {
            shaders.push(Shader {
                name: format!("{size:?} tiled {shader:?} {space:?}"),
                text: Tiling::of(size).text(&shader, space),
                cooperative: false,
            });
            if !matches!(shader.activations, ActivationKind::Floats(_)) {
                continue;
            }
            for edge in [8, 16] {
                let matrices = Matrices { edge, subgroup: 32, emulated: false };
                for matrices in [matrices, Matrices::emulated(edge)] {
                    shaders.push(Shader {
                        name: format!("{size:?} {matrices:?} {shader:?} {space:?}"),
                        text: CooperativeTiling::of(size, matrices).text(&shader, space),
                        cooperative: !matrices.emulated,
                    });
                }
            }
        }
    }
    for space in spaces {
        let operations = operations::all(space).into_iter();
        shaders.extend(operations.map(|(name, text)| Shader {
            name: format!("{name} {space:?}"),
            text,
            cooperative: false,
        }));
    }
    shaders
}

const ELEMENTS: [Element; 2] = [Element::F32, Element::F16];

fn matmul_shaders() -> Vec<MatmulShader> {
    let widths = Width::ALL.map(WeightKind::Codes);
    let floats = ELEMENTS.map(WeightKind::Floats);
    let activations = [ActivationKind::Floats(Element::F32), ActivationKind::Floats(Element::F16)];
    let plain = MatmulShader {
        weights: WeightKind::Codes(Width::Two),
        activations: activations[0],
        output: OutputKind::Floats(Element::F32),
        epilogue: EpilogueKind::default(),
        placed: false,
    };
    let mut shaders = Vec::new();
    for weights in widths.into_iter().chain(floats) {
        shaders.extend(activations.map(|activations| MatmulShader {
            weights,
            activations,
            ..plain
        }));
    }
    for weights in widths {
        for output in [plain.output, OutputKind::Accumulators] {
            let activations = ActivationKind::Int8;
            shaders.push(MatmulShader { weights, activations, output, ..plain });
        }
    }
    let residuals = [
        None,
        Some(ResidualKind::InPlace),
        Some(ResidualKind::Other(Element::F32)),
        Some(ResidualKind::Other(Element::F16)),
    ];
    let functions = [None].into_iter().chain(Activation::ALL.map(Some));
    for (activation, residual) in functions.zip(residuals) {
        for element in ELEMENTS {
            let epilogue =
                EpilogueKind { bias: true, activation, layer_scale: residual.is_some(), residual };
            let output = OutputKind::Floats(element);
            shaders.push(MatmulShader { output, epilogue, placed: true, ..plain });
            shaders.push(MatmulShader {
                output,
                epilogue,
                activations: ActivationKind::Int8,
                ..plain
            });
        }
    }
    shaders
}
