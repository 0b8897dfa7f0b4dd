//! What is wanted, and whether it is met.

/// Scenarios that the bars need.
pub(super) const NEEDED: [&str; 10] = [
    "publish-w1-100b",
    "publish-w100-100b",
    "publish-w2000-100b",
    "publish-w2000-1k",
    "publish-w100-1m",
    "publish-connections-1000",
    "end-to-end-p2000",
    "latency-half",
    "grpc-1",
    "grpc-100",
];
