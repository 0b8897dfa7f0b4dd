//! The durable store of the Leveret broker.
