//! Where the time of a forward pass goes.
//!
//! The executor owns a [`Clock`] and tells it after each operation which one has just ended. What has passed since the
//! previous word is that operation's time, so that the times of a profile add up to the whole pass and nothing hides between
//! them. A clock that is off is one branch per operation.

use std::time::{Duration, Instant};

/// What a forward pass consists of, in its order. Each comes once per block, or once per pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Pixels to tokens: gathering patches, the product with the patch embedding, class token and positions.
    PatchEmbedding,
    /// LayerNorm of the tokens, and in integer arithmetic their quantisation, before the first product of a block.
    Norm1,
    /// The product that makes queries, keys and values.
    Qkv,
    /// LayerNorm of queries and keys, of the models that have it.
    QkNorm,
    /// Scores, softmax and weighted values.
    Attention,
    /// Quantisation of the attention's output, in integer arithmetic.
    QuantizeAttention,
    /// The product after the attention, with the residual.
    Projection,
    /// As [`Operation::Norm1`], before the first product of the MLP.
    Norm2,
    /// The first product of the MLP, with the activation function.
    Fc1,
    /// Quantisation of the hidden layer, in integer arithmetic.
    QuantizeHidden,
    /// The second product of the MLP, with the residual.
    Fc2,
    /// Final norm, pooling and classifier.
    Head,
}

impl Operation {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Operation; 12] = [
        Operation::PatchEmbedding,
        Operation::Norm1,
        Operation::Qkv,
        Operation::QkNorm,
        Operation::Attention,
        Operation::QuantizeAttention,
        Operation::Projection,
        Operation::Norm2,
        Operation::Fc1,
        Operation::QuantizeHidden,
        Operation::Fc2,
        Operation::Head,
    ];

    /// A name of lower-case words: `"patch embedding"`, `"qkv"`.
    pub fn name(self) -> &'static str {
        match self {
            Operation::PatchEmbedding => "patch embedding",
            Operation::Norm1 => "norm1",
            Operation::Qkv => "qkv",
            Operation::QkNorm => "qk norm",
            Operation::Attention => "attention",
            Operation::QuantizeAttention => "quantize attention",
            Operation::Projection => "projection",
            Operation::Norm2 => "norm2",
            Operation::Fc1 => "fc1",
            Operation::QuantizeHidden => "quantize hidden",
            Operation::Fc2 => "fc2",
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
    /// How often it ran: once per block and pass, or once per pass.
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

    /// Time of all operations together: that of the run.
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

    /// An operation has ended. `products` are the sizes `[m, n, k]` of its matrix products, all counted alike.
    #[inline]
    pub(crate) fn lap(&mut self, operation: Operation, products: &[[usize; 3]]) {
        if let Some(running) = &mut self.running {
            let now = Instant::now();
            let count: u64 = products
                .iter()
                .map(|sizes| sizes.iter().map(|&size| size as u64).product::<u64>())
                .sum();
            running.profile.add(operation, now - running.since, 2 * count);
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
            clock.lap(Operation::Qkv, &[[2, 3, 5]]);
            clock.lap(Operation::Attention, &[[4, 1, 1], [1, 1, 6]]);
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
        clock.lap(Operation::Fc1, &[]);
        assert_eq!(clock.stop(), None);
        clock.start();
        assert!(clock.stop().is_some());
        clock.lap(Operation::Fc1, &[]);
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
