//! What a sampled block stands for.

/// Unbiased weights of a recording with Poisson samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights {
    sample_bytes: f64,
}

impl Weights {
    /// For a recording with a sample each `sample_bytes` on average; 0: all is recorded.
    pub(crate) fn new(sample_bytes: u64) -> Self {
        Self { sample_bytes: sample_bytes as f64 }
    }

    /// Whether the recording is a sample.
    pub(crate) fn is_sampled(self) -> bool {
        self.sample_bytes > 0.0
    }

    /// How many blocks of `size` bytes one recorded block stands for: 1 over the probability
    /// that at least one sample point falls into it.
    #[inline]
    pub(crate) fn of(self, size: u64) -> f64 {
        if self.sample_bytes == 0.0 {
            return 1.0;
        }
        // A block of no bytes counts as one of one byte: it can be sampled by nothing less.
        let probability = -(-(size.max(1) as f64) / self.sample_bytes).exp_m1();
        1.0 / probability
    }
}

#[cfg(test)]
mod tests {
    use super::Weights;

    #[test]
    fn weights_undo_the_probability() {
        assert_eq!(Weights::new(0).of(10), 1.0);
        let weights = Weights::new(1000);
        assert!((weights.of(1) - 1000.5).abs() < 0.01);
        assert!((weights.of(1000) - 1.0 / (1.0 - (-1f64).exp())).abs() < 1e-12);
        assert_eq!(weights.of(1 << 40), 1.0);
    }
}
