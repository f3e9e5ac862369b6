//! Other views of a calibration image: mirrored, and cut out of it at another place and size.
//!
//! A few hundred images are soon known by heart. Distillation needs no labels, so any picture with
//! natural statistics will do, and parts of the images at hand are such pictures.

use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Ranges that views are drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Views {
    /// Whether every other view is mirrored left to right.
    pub mirror: bool,
    /// Least share of the image's area that a view shows, in (0, 1].
    pub least_area: f32,
}

impl fmt::Display for Views {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mirror = if self.mirror { "mirrored " } else { "" };
        write!(formatter, "{mirror}crops of {} to 1", self.least_area)
    }
}

/// Shape of prepared pixels: channels, height, width.
pub(super) type Shape = [usize; 3];

impl Views {
    /// The view of image `place` in pass `pass`, of the size of the image.
    pub(super) fn draw(
        &self,
        pixels: &[f32],
        [channels, height, width]: Shape,
        (seed, pass, place): (u64, usize, usize),
    ) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(((pass as u64) << 32) | place as u64);
        let mirrored = self.mirror && random.random::<f32>() < 0.5;
        let area = self.least_area + (1.0 - self.least_area) * random.random::<f32>();
        // Sides between 3:4 and 4:3 of each other, as far as the image allows.
        let stretch = (random.random::<f32>() * 2.0 - 1.0) * (4.0_f32 / 3.0).sqrt().ln();
        let sides = [area.sqrt() * stretch.exp(), area.sqrt() / stretch.exp()];
        let [rows, columns] = [(sides[0], height), (sides[1], width)].map(|(side, extent)| {
            let side = side.min(1.0);
            let first = random.random::<f32>() * (1.0 - side);
            taps(extent, first * extent as f32, side)
        });
        let mut view = Vec::with_capacity(pixels.len());
        for plane in pixels.chunks_exact(height * width).take(channels) {
            for &(row, below) in &rows {
                let at = |column: usize| {
                    let next = (row + 1).min(height - 1);
                    plane[row * width + column] * (1.0 - below)
                        + plane[next * width + column] * below
                };
                for index in 0..width {
                    let index = if mirrored { width - 1 - index } else { index };
                    let (column, right) = columns[index];
                    let next = (column + 1).min(width - 1);
                    view.push(at(column) * (1.0 - right) + at(next) * right);
                }
            }
        }
        view
    }
}

/// For each of `extent` samples of a window that begins at `first` and is `side` times as long:
/// the sample before it, and the share of the next one.
fn taps(extent: usize, first: f32, side: f32) -> Vec<(usize, f32)> {
    (0..extent)
        .map(|index| {
            let centre = first + (index as f32 + 0.5) * side - 0.5;
            let centre = centre.clamp(0.0, (extent - 1) as f32);
            (centre as usize, centre.fract())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = [2, 5, 7];

    fn image() -> Vec<f32> {
        (0..70).map(|index| (index * 13 % 17) as f32).collect()
    }

    #[test]
    fn whole_views_are_the_image_or_its_mirror_image() {
        // Near-whole windows only: a share of 1 leaves the stretch, which the image's edge stops.
        let views = Views { mirror: true, least_area: 1.0 };
        let (mut mirrored, image) = (0, image());
        let mirror: Vec<f32> = image.chunks(7).flat_map(|row| row.iter().rev().copied()).collect();
        let distance = |a: &[f32], b: &[f32]| -> f32 {
            a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / 70.0
        };
        for place in 0..64 {
            let view = views.draw(&image, SHAPE, (5, 1, place));
            assert_eq!(view.len(), image.len());
            mirrored += usize::from(distance(&view, &mirror) < distance(&view, &image));
        }
        assert!((16..48).contains(&mirrored), "{mirrored} of 64 mirrored");
    }

    #[test]
    fn views_differ_by_pass_and_place_and_repeat_by_seed() {
        let views = Views { mirror: true, least_area: 0.3 };
        let view = |key| views.draw(&image(), SHAPE, key);
        assert_eq!(view((1, 2, 3)), view((1, 2, 3)));
        for other in [(2, 2, 3), (1, 3, 3), (1, 2, 4)] {
            assert_ne!(view((1, 2, 3)), view(other), "{other:?}");
        }
        let values = view((1, 2, 3));
        assert!(values.iter().all(|value| (0.0..=16.0).contains(value)), "{values:?}");
    }

    #[test]
    fn a_window_reads_between_the_samples() {
        let samples: Vec<f32> =
            taps(4, 1.0, 0.5).iter().map(|&(at, share)| at as f32 + share).collect();
        assert_eq!(samples, [0.75, 1.25, 1.75, 2.25]);
        let whole: Vec<(usize, f32)> = taps(4, 0.0, 1.0);
        assert_eq!(whole, [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0)]);
    }
}
