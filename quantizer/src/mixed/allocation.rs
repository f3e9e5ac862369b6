//! Which layer gets which width: the multiple-choice knapsack problem.
//!
//! Exactly one option of every layer is taken so that the sum of costs stays within the budget and
//! the sum of losses is least. Dynamic programming over Pareto frontiers solves it exactly: after
//! each layer only those partial choices are kept that no other beats in cost and loss at once. A
//! transformer repeats a handful of matrix shapes, so many choices cost the same and a frontier has
//! thousands of entries, not `4^48`.

/// One option of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// What it takes of the budget.
    pub cost: u64,
    /// What it loses; finite.
    pub loss: f64,
}

/// Longest frontier. Beyond it, which no published model reaches, the answer is no longer exactly
/// the best, but still within the budget.
const MAX_FRONTIER: usize = 1 << 16;

/// A partial choice that no other beats.
#[derive(Debug, Clone, Copy)]
struct Partial {
    cost: u64,
    loss: f64,
    /// Index in the previous frontier.
    previous: u32,
    /// Option taken of the latest layer.
    option: u32,
}

/// The option to take of each layer; `None` where even the cheapest exceed the budget, or a layer
/// has no options.
///
/// Of equally good answers the cheaper one is returned.
pub fn allocate(layers: &[Vec<Choice>], budget: u64) -> Option<Vec<usize>> {
    let cheapest: Vec<u64> = layers
        .iter()
        .map(|options| options.iter().map(|option| option.cost).min())
        .collect::<Option<_>>()?;
    // What the layers still to come take at the least.
    let mut reserved = cheapest.iter().fold(0_u64, |sum, &cost| sum.saturating_add(cost));
    let mut frontiers: Vec<Vec<Partial>> = Vec::with_capacity(layers.len());
    let mut latest = vec![Partial { cost: 0, loss: 0.0, previous: 0, option: 0 }];
    for (options, cheapest) in layers.iter().zip(&cheapest) {
        reserved -= cheapest;
        let mut extended = Vec::with_capacity(latest.len() * options.len());
        for (previous, partial) in (0_u32..).zip(&latest) {
            for (option, choice) in (0_u32..).zip(options) {
                let cost = partial.cost.saturating_add(choice.cost);
                if cost.saturating_add(reserved) <= budget {
                    let loss = partial.loss + choice.loss;
                    extended.push(Partial { cost, loss, previous, option });
                }
            }
        }
        frontiers.push(std::mem::replace(&mut latest, pareto(extended)));
    }
    frontiers.push(latest);
    // Losses fall along a frontier.
    let mut at = frontiers.last()?.len().checked_sub(1)?;
    let mut options: Vec<usize> = frontiers
        .iter()
        .skip(1)
        .rev()
        .map(|frontier| {
            let partial = frontier[at];
            at = partial.previous as usize;
            partial.option as usize
        })
        .collect();
    options.reverse();
    Some(options)
}

/// The partial choices that no other beats, costs rising and losses falling.
fn pareto(mut partials: Vec<Partial>) -> Vec<Partial> {
    // Stable, so that ties fall the same way on every machine.
    partials.sort_by(|a, b| a.cost.cmp(&b.cost).then(a.loss.total_cmp(&b.loss)));
    let mut best = f64::INFINITY;
    partials.retain(|partial| {
        let better = partial.loss < best;
        if better {
            best = partial.loss;
        }
        better
    });
    if partials.len() > MAX_FRONTIER {
        let step = partials.len().div_ceil(MAX_FRONTIER / 2);
        let last = partials.len() - 1;
        let mut index = 0;
        partials.retain(|_| {
            let kept = index % step == 0 || index == last;
            index += 1;
            kept
        });
    }
    partials
}

/// Losses of one layer from the narrowest to the widest option with measuring noise taken out: a
/// wider option never counts as worse than a narrower one.
pub fn repair_order(losses: &mut [f64]) {
    let mut best = f64::INFINITY;
    for loss in losses {
        best = best.min(*loss);
        *loss = best;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn total(layers: &[Vec<Choice>], options: &[usize]) -> (u64, f64) {
        layers.iter().zip(options).fold((0, 0.0), |(cost, loss), (layer, &option)| {
            (cost + layer[option].cost, loss + layer[option].loss)
        })
    }

    /// Every combination, one after the other.
    fn brute_force(layers: &[Vec<Choice>], budget: u64) -> Option<f64> {
        let combinations: usize = layers.iter().map(Vec::len).product();
        (0..combinations)
            .filter_map(|mut combination| {
                let mut options = Vec::new();
                for layer in layers {
                    options.push(combination % layer.len());
                    combination /= layer.len();
                }
                let (cost, loss) = total(layers, &options);
                (cost <= budget).then_some(loss)
            })
            .min_by(f64::total_cmp)
    }

    fn layers() -> impl Strategy<Value = Vec<Vec<Choice>>> {
        let choice =
            (0_u64..40, -3.0..10.0).prop_map(|(cost, loss): (u64, f64)| Choice { cost, loss });
        prop::collection::vec(prop::collection::vec(choice, 1..5), 1..7)
    }

    proptest! {
        #[test]
        fn the_choice_is_the_best_of_all(layers in layers(), budget in 0_u64..150) {
            match (allocate(&layers, budget), brute_force(&layers, budget)) {
                (None, None) => {}
                (Some(options), Some(best)) => {
                    let (cost, loss) = total(&layers, &options);
                    prop_assert!(cost <= budget);
                    prop_assert!((loss - best).abs() < 1e-9, "{loss}, best {best}");
                }
                (found, best) => prop_assert!(false, "{found:?}, best {best:?}"),
            }
        }

        #[test]
        fn repaired_losses_never_rise(mut losses in prop::collection::vec(-1.0..1.0, 0..8)) {
            let before = losses.clone();
            repair_order(&mut losses);
            prop_assert!(losses.windows(2).all(|pair| pair[1] <= pair[0]));
            prop_assert!(losses.iter().zip(&before).all(|(after, before)| after <= before));
        }
    }

    #[test]
    fn long_frontiers_stay_within_the_budget() {
        // Costs without a common divisor: far more than MAX_FRONTIER distinct sums.
        let layers: Vec<Vec<Choice>> = (0..40_u64)
            .map(|layer| {
                let at = |option: u64| Choice {
                    cost: (option + 1) * (1_000_003 + layer * layer * 7919),
                    loss: 1.0 / ((option + 1) as f64 * (layer + 1) as f64),
                };
                (0..4).map(at).collect()
            })
            .collect();
        let uniform = |option: usize| total(&layers, &vec![option; layers.len()]);
        let (budget, loss) = uniform(1);
        let options = allocate(&layers, budget).expect("the budget suffices");
        let (cost, found) = total(&layers, &options);
        assert!(cost <= budget && found < loss, "{cost} of {budget}, {found} against {loss}");
        assert_eq!(allocate(&layers, uniform(0).0), Some(vec![0; layers.len()]));
        assert_eq!(allocate(&layers, uniform(0).0 - 1), None);
    }
}
