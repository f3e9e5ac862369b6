//! Where the time of a forward pass goes.
//!
//! The executor owns a `Clock` and tells it after each operation which one has just ended. What has passed since the
//! previous word is that operation's time, so that nothing hides between operations. A clock that is off is one branch per operation.

use std::time::{Duration, Instant};

/// What a forward pass consists of, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Checking pixels, cutting them into patches, and packing these: see [`Activations::pack`](fresnel_kernels::Activations::pack).
    Patches,
    /// The product of the patches with the patch embedding.
    PatchEmbedding,
    /// Class token and positions, and the norm of the models that have one before their blocks.
    Tokens,
    /// LayerNorm of the tokens, fused with quantising or rounding them and packing them for the next product.
    Norm1,
    /// The product that makes queries, keys and values.
    Qkv,
    /// LayerNorm of queries and keys, of the models that have it.
    QkNorm,
    /// Scores, softmax and weighted values.
    Attention,
    /// Quantising or rounding the attention's output, and packing it.
    PackAttention,
    /// The product after the attention, with the residual.
    Projection,
    /// As [`Operation::Norm1`], before the MLP.
    Norm2,
    /// The first product of the MLP, with the activation function.
    Fc1,
    /// Quantising or rounding the hidden layer, and packing it.
    PackHidden,
    /// The second product of the MLP, with the residual.
    Fc2,
    /// Final norm, pooling, and packing of the pooled features.
    Pooling,
    /// The product with the classifier.
    Head,
}

impl Operation {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Operation; 15] = [
        Operation::Patches,
        Operation::PatchEmbedding,
        Operation::Tokens,
        Operation::Norm1,
        Operation::Qkv,
        Operation::QkNorm,
        Operation::Attention,
        Operation::PackAttention,
        Operation::Projection,
        Operation::Norm2,
        Operation::Fc1,
        Operation::PackHidden,
        Operation::Fc2,
        Operation::Pooling,
        Operation::Head,
    ];

    /// A name of lower-case words: `"patch embedding"`, `"qkv"`.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Patches => "patches",
            Operation::PatchEmbedding => "patch embedding",
            Operation::Tokens => "tokens",
            Operation::Norm1 => "norm1",
            Operation::Qkv => "qkv",
            Operation::QkNorm => "qk norm",
            Operation::Attention => "attention",
            Operation::PackAttention => "pack attention",
            Operation::Projection => "projection",
            Operation::Norm2 => "norm2",
            Operation::Fc1 => "fc1",
            Operation::PackHidden => "pack hidden",
            Operation::Fc2 => "fc2",
            Operation::Pooling => "pooling",
            Operation::Head => "head",
        }
    }
}

/// The times of one run, by operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    entries: [Entry; Operation::ALL.len()],
}

/// What one operation took, summed over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// How often it ran: once per pass over a few images, or in each block of it.
    pub calls: usize,
    /// Time of all calls.
    pub time: Duration,
    /// Arithmetic operations of its matrix products, a multiply-accumulate counting as two; 0 without products.
    pub arithmetic_operations: u64,
}

impl Profile {
    /// What an operation took; nothing where the model or the arithmetic has no such operation.
    pub fn entry(&self, operation: Operation) -> Entry {
        self.entries[operation as usize]
    }

    /// Time of all operations together.
    pub fn total(&self) -> Duration {
        self.entries.iter().map(|entry| entry.time).sum()
    }

    fn add(&mut self, operation: Operation, time: Duration, arithmetic_operations: u64) {
        let entry = &mut self.entries[operation as usize];
        entry.calls += 1;
        entry.time += time;
        entry.arithmetic_operations += arithmetic_operations;
    }
}

/// Times operations that follow each other without a gap, or does nothing.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    profile: Profile,
    since: Instant,
}

impl Clock {
    /// Starts a new profile.
    pub(crate) fn start(&mut self) {
        self.running = Some(Running { profile: Profile::default(), since: Instant::now() });
    }

    /// The profile since the start, if there was one; the clock is off afterwards.
    pub(crate) fn stop(&mut self) -> Option<Profile> {
        self.running.take().map(|running| running.profile)
    }

    /// Whether a profile was started.
    #[cfg(feature = "gpu")]
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// An operation has ended, whose products had so many multiply-accumulates.
    #[inline]
    pub(crate) fn lap(&mut self, operation: Operation, multiply_accumulates: usize) {
        if let Some(running) = &mut self.running {
            let now = Instant::now();
            let time = now - running.since;
            running.profile.add(operation, time, 2 * multiply_accumulates as u64);
            running.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Clock, Entry, Operation};

    #[test]
    fn laps_add_up_to_the_time_between_start_and_the_last_lap() {
        let mut clock = Clock::default();
        let before = Instant::now();
        clock.start();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(1));
            clock.lap(Operation::Qkv, 30);
            clock.lap(Operation::Attention, 10);
        }
        let elapsed = before.elapsed();
        let profile = clock.stop().unwrap();
        let qkv = profile.entry(Operation::Qkv);
        assert_eq!((qkv.calls, qkv.arithmetic_operations), (3, 3 * 60));
        assert!(qkv.time >= Duration::from_millis(3));
        let attention = profile.entry(Operation::Attention);
        assert_eq!((attention.calls, attention.arithmetic_operations), (3, 3 * 20));
        assert_eq!(profile.total(), qkv.time + attention.time);
        assert!(profile.total() <= elapsed);
        assert_eq!(profile.entry(Operation::Head), Entry::default());
    }

    #[test]
    fn a_clock_that_is_off_records_nothing() {
        let mut clock = Clock::default();
        clock.lap(Operation::Fc1, 0);
        assert_eq!(clock.stop(), None);
        clock.start();
        assert!(clock.stop().is_some());
        clock.lap(Operation::Fc1, 0);
        assert_eq!(clock.stop(), None);
    }

    #[test]
    fn operations_are_listed_in_their_own_order_with_distinct_names() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index);
            assert!(Operation::ALL[..index].iter().all(|other| other.name() != operation.name()));
        }
    }
}
