//! Whether blocks run where they should; alone in its program, for it counts what a process launches.

use fresnel_quantizer::algorithm::beacon::{Options, solve};
use fresnel_quantizer::algorithm::block::{BLOCK, launches};
use fresnel_quantizer::calibration::{Accumulator, Batch};
use fresnel_quantizer::device::DeviceKind;
use fresnel_tests::{devices, noise};

#[test]
fn every_block_of_every_phase_is_one_launch_on_the_gpu_and_none_on_the_cpu() {
    let (inputs, channels) = (5 * BLOCK / 2, 40);
    for device in devices("launches") {
        let rows = device.matrix(noise(200 * inputs, 1), 200, inputs);
        let mut sums = Accumulator::new(inputs, false);
        let batch = Batch { inputs: rows, target: None, weights: None };
        sums.add(&batch.products().expect("statistics"));
        let before = launches();
        let options = Options { sweeps: 3, ..Options::default() };
        let weights = noise(inputs * channels, 2);
        let solution = solve(&device, &sums.finish(), &weights, 4, &options).expect("a solution");
        assert!(solution.phases.len() > 1, "no sweep ran");
        let expected = match device.kind() {
            DeviceKind::Cpu => 0,
            // Three blocks in the initialization and in every sweep that ran.
            DeviceKind::Gpu => 3 * solution.phases.len() as u64,
        };
        assert_eq!(launches() - before, expected, "launches on {device}");
    }
}
