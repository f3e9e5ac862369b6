//! Taking the noise out of measured losses.
//!
//! A loss measured on a few images is off by tens of per cent, and choosing the best of thousands
//! of combinations chooses what the noise flatters. Over layers of one kind (`attn.qkv`, ...) the
//! loss falls with the width by nearly the same factors in every block, as the error of the codes
//! does. Fitting
//!
//! ```text
//! loss(layer, width) = s(layer) r(kind, width)
//! ```
//!
//! in the logarithm, by means over widths and over layers, leaves one number per layer, to which
//! all its measurements contribute.

use std::collections::BTreeMap;

use super::LayerSensitivity;

/// Losses at or below this are rounding of 32-bit logits.
const FLOOR: f64 = 1e-9;

/// The fitted losses, for the layers that were measured, by name.
pub fn pooled(layers: &[LayerSensitivity]) -> BTreeMap<&str, Vec<f64>> {
    let measured = || layers.iter().filter(|layer| !layer.losses.is_empty());
    let logarithms = |layer: &LayerSensitivity| -> Vec<f64> {
        layer.losses.iter().map(|loss| loss.max(FLOOR).ln()).collect()
    };
    // Means over the layers of a kind.
    let mut kinds: BTreeMap<&str, (f64, Vec<f64>)> = BTreeMap::new();
    for layer in measured() {
        let logarithms = logarithms(layer);
        let (count, sums) =
            kinds.entry(kind(&layer.name)).or_insert_with(|| (0.0, vec![0.0; logarithms.len()]));
        *count += 1.0;
        sums.iter_mut().zip(&logarithms).for_each(|(sum, logarithm)| *sum += logarithm);
    }
    measured()
        .map(|layer| {
            let (count, sums) = &kinds[kind(&layer.name)];
            let usual: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
            let logarithms = logarithms(layer);
            let above = logarithms.iter().zip(&usual).map(|(own, usual)| own - usual).sum::<f64>()
                / usual.len() as f64;
            (layer.name.as_str(), usual.iter().map(|usual| (usual + above).exp()).collect())
        })
        .collect()
}

/// What of a weight's name is the same in every block.
fn kind(name: &str) -> &str {
    name.strip_prefix("blocks.")
        .and_then(|rest| rest.split_once('.'))
        .map_or(name, |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, losses: &[f64]) -> LayerSensitivity {
        LayerSensitivity { name: name.to_owned(), losses: losses.to_vec() }
    }

    #[test]
    fn losses_that_follow_the_rule_stay_and_noise_is_shared() {
        let exact = [
            layer("blocks.0.attn.qkv.weight", &[0.4, 0.2, 0.05]),
            layer("blocks.1.attn.qkv.weight", &[0.04, 0.02, 0.005]),
            layer("blocks.0.mlp.fc1.weight", &[3.0, 2.0, 1.0]),
            layer("blocks.1.mlp.fc1.weight", &[]),
        ];
        let fitted = pooled(&exact);
        assert_eq!(fitted.len(), 3);
        for layer in &exact[..3] {
            for (loss, fitted) in layer.losses.iter().zip(&fitted[layer.name.as_str()]) {
                assert!((loss / fitted - 1.0).abs() < 1e-12, "{}: {loss}, {fitted}", layer.name);
            }
        }
        let noisy = [
            layer("blocks.0.attn.qkv.weight", &[0.4 * 2.0, 0.2, 0.05]),
            layer("blocks.1.attn.qkv.weight", &[0.4, 0.2, 0.05]),
        ];
        let fitted = pooled(&noisy);
        let [first, second] = [0, 1].map(|block| &fitted[&*noisy[block].name]);
        for (first, second) in first.iter().zip(second) {
            // A factor of 2 in one of three widths.
            assert!((first / second - 2_f64.powf(1.0 / 3.0)).abs() < 1e-12);
        }
    }

    #[test]
    fn losses_of_nothing_are_finite() {
        let layers = [layer("head.weight", &[0.0, -1e-12]), layer("x", &[1e-3, 1e-4])];
        let fitted = pooled(&layers);
        assert!(fitted.values().flatten().all(|loss| loss.is_finite()));
    }
}
