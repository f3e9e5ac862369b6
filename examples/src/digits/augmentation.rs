//! Random distortions of a digit: what makes 9,000 training digits enough.
//!
//! A digit is moved, turned, scaled and slanted as a whole (an affine map about its centre), and
//! bent locally by a smooth random displacement, the elastic distortion of Simard, Steinkraus and
//! Platt (2003, "Best practices for convolutional neural networks applied to visual document
//! analysis"). They smooth white noise with a Gaussian; here the same smoothness comes from a cubic
//! B-spline over a coarse grid of random control points, which costs a few multiplications a pixel.

use rand::{Rng, RngExt};

use super::archive::{PIXELS, SIDE};

/// Control points of the displacement along one axis: the spline needs two beyond the image.
const CONTROL_POINTS: usize = 8;
/// Pixels between two control points.
const SPACING: f32 = SIDE as f32 / (CONTROL_POINTS - 3) as f32;

/// How far a digit may be distorted. Each amount is drawn uniformly from `-limit..=limit`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// Largest turn, in radians.
    pub rotation: f32,
    /// Largest relative change of size, for each axis on its own.
    pub scale: f32,
    /// Largest slant: pixels sideways per pixel upwards.
    pub shear: f32,
    /// Largest shift along each axis, in pixels.
    pub shift: f32,
    /// Largest displacement of a control point along each axis, in pixels.
    pub elastic: f32,
}

impl Augmentation {
    /// No distortion at all.
    pub const NONE: Self = Self { rotation: 0.0, scale: 0.0, shear: 0.0, shift: 0.0, elastic: 0.0 };

    /// The distortions that the digits model is trained with.
    pub const TRAINING: Self =
        Self { rotation: 0.26, scale: 0.15, shear: 0.2, shift: 2.5, elastic: 2.5 };

    /// These distortions with every limit multiplied by `strength`.
    #[must_use]
    pub fn scaled(&self, strength: f32) -> Self {
        Self {
            rotation: self.rotation * strength,
            scale: self.scale * strength,
            shear: self.shear * strength,
            shift: self.shift * strength,
            elastic: self.elastic * strength,
        }
    }

    /// Writes a distorted copy of `image` (`[28, 28]`, 0 to 255) to `out` (`[28, 28]`, 0.0 to
    /// 255.0). What lies outside of the image is background, 0.
    ///
    /// # Panics
    /// If a slice does not have 784 elements.
    pub fn apply(&self, image: &[u8], rng: &mut impl Rng, out: &mut [f32]) {
        assert_eq!(image.len(), PIXELS, "a digit has {PIXELS} pixels");
        assert_eq!(out.len(), PIXELS, "a digit has {PIXELS} pixels");
        let mut draw = |limit: f32| limit * rng.random_range(-1.0..=1.0f32);

        let (sin, cos) = draw(self.rotation).sin_cos();
        let (scale_x, scale_y) = (1.0 + draw(self.scale), 1.0 + draw(self.scale));
        let shear = draw(self.shear);
        let (shift_x, shift_y) = (draw(self.shift), draw(self.shift));
        let displacement_x = displacement(|| draw(self.elastic));
        let displacement_y = displacement(|| draw(self.elastic));

        let centre = (SIDE - 1) as f32 / 2.0;
        for (index, value) in out.iter_mut().enumerate() {
            // Backwards, from a pixel of the result to the place in the image it comes from.
            let x = (index % SIDE) as f32 - centre - shift_x;
            let y = (index / SIDE) as f32 - centre - shift_y;
            let (turned_x, turned_y) = (cos * x + sin * y, cos * y - sin * x);
            let source_x = (turned_x + shear * turned_y) / scale_x + displacement_x[index];
            let source_y = turned_y / scale_y + displacement_y[index];
            *value = sample(image, source_x + centre, source_y + centre);
        }
    }
}

/// A smooth displacement for each pixel, from random control points.
fn displacement(mut draw: impl FnMut() -> f32) -> [f32; PIXELS] {
    let mut control = [[0.0f32; CONTROL_POINTS]; CONTROL_POINTS];
    for value in control.iter_mut().flatten() {
        *value = draw();
    }
    // Along x for each row of control points, then along y.
    let mut rows = [[0.0f32; SIDE]; CONTROL_POINTS];
    for (row, points) in rows.iter_mut().zip(&control) {
        for (x, value) in row.iter_mut().enumerate() {
            let (first, weights) = spline(x);
            *value = (0..4).map(|i| weights[i] * points[first + i]).sum();
        }
    }
    let mut field = [0.0; PIXELS];
    for (y, line) in field.chunks_exact_mut(SIDE).enumerate() {
        let (first, weights) = spline(y);
        for (x, value) in line.iter_mut().enumerate() {
            *value = (0..4).map(|i| weights[i] * rows[first + i][x]).sum();
        }
    }
    field
}

/// First control point of the four that reach `pixel`, and their cubic B-spline weights.
fn spline(pixel: usize) -> (usize, [f32; 4]) {
    let position = (pixel as f32 + 0.5) / SPACING;
    let first = (position as usize).min(CONTROL_POINTS - 4);
    let t = position - first as f32;
    let s = 1.0 - t;
    let weights = [
        s * s * s / 6.0,
        (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0,
        (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0,
        t * t * t / 6.0,
    ];
    (first, weights)
}

/// Bilinear sample of `image` at `(x, y)`; 0 outside.
fn sample(image: &[u8], x: f32, y: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let (right_share, bottom_share) = (x - left, y - top);
    let pixel = |x: f32, y: f32| {
        let inside = 0.0..SIDE as f32;
        if inside.contains(&x) && inside.contains(&y) {
            f32::from(image[y as usize * SIDE + x as usize])
        } else {
            0.0
        }
    };
    let above = pixel(left, top) * (1.0 - right_share) + pixel(left + 1.0, top) * right_share;
    let below =
        pixel(left, top + 1.0) * (1.0 - right_share) + pixel(left + 1.0, top + 1.0) * right_share;
    above * (1.0 - bottom_share) + below * bottom_share
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn block() -> Vec<u8> {
        // A bright square of 8 x 8 in the middle.
        (0..PIXELS)
            .map(|i| {
                let inside = |p: usize| (10..18).contains(&p);
                if inside(i % SIDE) && inside(i / SIDE) { 200 } else { 0 }
            })
            .collect()
    }

    #[test]
    fn no_distortion_gives_the_digit_back() {
        let image: Vec<u8> = (0..PIXELS).map(|i| (i * 7 % 256) as u8).collect();
        let mut out = vec![0.0; PIXELS];
        Augmentation::NONE.apply(&image, &mut ChaCha8Rng::seed_from_u64(1), &mut out);
        for (pixel, value) in image.iter().zip(&out) {
            assert!((f32::from(*pixel) - value).abs() < 0.01);
        }
    }

    #[test]
    fn equal_seeds_give_equal_digits_and_other_seeds_others() {
        let draw = |seed| {
            let mut out = vec![0.0; PIXELS];
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            Augmentation::TRAINING.apply(&block(), &mut rng, &mut out);
            out
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn distorted_digits_keep_their_range_and_about_their_ink() {
        let image = block();
        let ink: f32 = image.iter().map(|&p| f32::from(p)).sum();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut out = vec![0.0; PIXELS];
        for _ in 0..200 {
            Augmentation::TRAINING.apply(&image, &mut rng, &mut out);
            assert!(out.iter().all(|value| (0.0..=255.0).contains(value)));
            let share = out.iter().sum::<f32>() / ink;
            assert!((0.4..2.2).contains(&share), "share of ink {share}");
        }
    }

    #[test]
    fn spline_weights_sum_to_one_and_stay_inside() {
        for pixel in 0..SIDE {
            let (first, weights) = spline(pixel);
            assert!(first + 4 <= CONTROL_POINTS);
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(weights.iter().all(|&weight| weight >= 0.0));
        }
    }
}
