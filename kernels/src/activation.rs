//! Activation functions.

use crate::arch::Simd;
use crate::ops::math;

/// An activation function, applied to each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x / 2 * (1 + erf(x / sqrt(2)))`.
    GeluErf,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `x / (1 + exp(-1.702 x))`.
    QuickGelu,
}

impl Activation {
    /// Every activation function.
    pub const ALL: [Activation; 3] =
        [Activation::GeluErf, Activation::GeluTanh, Activation::QuickGelu];

    /// Applies it to each element.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, values: &mut [f32]) {
        match self {
            Activation::GeluErf => {
                for value in values {
                    *value = math::gelu_erf::<S>(*value);
                }
            }
            Activation::GeluTanh => {
                for value in values {
                    *value = math::gelu_tanh::<S>(*value);
                }
            }
            Activation::QuickGelu => {
                for value in values {
                    *value = math::quick_gelu::<S>(*value);
                }
            }
        }
    }

    /// [`apply`](Self::apply) for results that are rounded to half precision: [`Activation::GeluErf`] to within 2.6e-4.
    #[inline(always)]
    pub(crate) fn apply_coarsely<S: Simd>(self, simd: S, values: &mut [f32]) {
        match self {
            Activation::GeluErf => simd.gelu_coarse(values),
            Activation::GeluTanh | Activation::QuickGelu => self.apply::<S>(values),
        }
    }
}
