//! Bounds of what comes in, each with its arithmetic.

/// Bounds of a request and an event; settings may change them.
#[derive(Debug, Clone)]
pub struct IngestLimits {
    /// Bytes of a body as it is sent.
    pub body_bytes: usize,
    /// Bytes of a body once it is unpacked: four times the above, which is what audit events compress to.
    pub unpacked_bytes: usize,
    /// Events in one request: its answer stays below some 8 MiB.
    pub events: usize,
    /// Bytes of one event.
    pub event_bytes: usize,
    /// Bytes of one event's attributes.
    pub attributes_bytes: usize,
    /// Levels of objects and arrays in attributes.
    pub attributes_depth: usize,
    /// How far beyond the clock an event may claim to have happened, in microseconds.
    pub future_micros: i64,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            body_bytes: 16 << 20,
            unpacked_bytes: 64 << 20,
            events: 50_000,
            event_bytes: 256 << 10,
            attributes_bytes: ledger::field::ATTRIBUTES_BYTES,
            attributes_depth: 32,
            future_micros: 86_400_000_000,
        }
    }
}

/// Longest `Idempotency-Key`, in bytes.
pub const IDEMPOTENCY_KEY_BYTES: usize = 128;
