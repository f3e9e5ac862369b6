//! The measured peak rate of the multiply instructions: what a kernel's rate is a share of.

use std::time::{Duration, Instant};

use crate::arch::peak::Loop;
use crate::{Arithmetic, Isa, Pool};

/// Operations between two looks at the clock: 16 microseconds of the fastest unit known, and far less than a millisecond of
/// any vector unit.
const BLOCK: u64 = 1 << 25;

/// The multiply instruction that the kernels of an instruction set use in one arithmetic, in a loop that touches registers
/// only.
///
/// Its rate depends on what else the machine does, and on what its clock does under such instructions; measure it in turns
/// with a kernel, never on another day.
///
/// ```
/// use std::time::Duration;
///
/// use fresnel_kernels::{Arithmetic, Isa, Peak, Pool};
///
/// let pool = Pool::new(1)?;
/// if let Some(peak) = Peak::new(Isa::best(), Arithmetic::Int8) {
///     let rate = peak.operations_per_second(&pool, Duration::from_millis(1));
///     println!("{}: {:.0} GOP/s", peak.instruction(), rate * 1e-9);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    body: Loop,
}

impl Peak {
    /// The loop of an instruction set; `None` where this machine lacks it, or it has no kernels of that arithmetic, or this
    /// target's instructions have no loop (there are loops for x86-64).
    pub fn new(isa: Isa, arithmetic: Arithmetic) -> Option<Peak> {
        Loop::new(isa.token()?, arithmetic).map(|body| Peak { body })
    }

    /// The instructions of the loop, as an assembler names them: `"vpdpbusd zmm"`, say.
    pub fn instruction(&self) -> &'static str {
        self.body.instruction
    }

    /// Runs the loop on every thread of `pool` for about `time` and returns operations per second, summed over the threads;
    /// a multiply-accumulate is two operations. 5 ms and more give steady figures, the highest of several is the peak.
    pub fn operations_per_second(&self, pool: &Pool, time: Duration) -> f64 {
        let repetitions = BLOCK.div_ceil(self.body.operations);
        let measure = || {
            let start = Instant::now();
            let mut blocks = 0_u64;
            loop {
                self.body.run(repetitions);
                blocks += 1;
                let elapsed = start.elapsed();
                if elapsed >= time && !elapsed.is_zero() {
                    let operations = blocks * repetitions * self.body.operations;
                    break operations as f64 / elapsed.as_secs_f64();
                }
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..pool.threads()).map(|_| scope.spawn(measure)).collect();
            let own = measure();
            others
                .into_iter()
                .filter_map(|other| other.join().ok())
                .fold(own, |sum, rate| sum + rate)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Peak;
    use crate::{Arithmetic, Isa};

    /// Every kernel of an x86-64 machine has its loop, which runs and counts operations on any number of threads.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_arithmetic_of_every_instruction_set_has_a_loop() {
        use std::time::Duration;

        use crate::Pool;

        for isa in Isa::available() {
            for threads in [1, 3] {
                let pool = Pool::with_isa(threads, isa).unwrap();
                for arithmetic in Arithmetic::ALL.into_iter().filter(|&one| isa.supports(one)) {
                    let peak = Peak::new(isa, arithmetic).unwrap();
                    let rate = peak.operations_per_second(&pool, Duration::ZERO);
                    assert!(rate.is_finite() && rate > 0.0, "{isa} {arithmetic:?}: {rate}");
                    assert!(!peak.instruction().is_empty());
                }
            }
        }
    }

    #[test]
    fn a_missing_instruction_set_has_no_loop() {
        for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
            assert!(Peak::new(isa, Arithmetic::F32).is_none());
        }
    }
}
