//! Numbers that must not be confused with each other.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after it. Behind the last one there is none: what a file says must bring nobody down.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// One incarnation of a queue. Never reused: a queue made again gets a new one.
    QueueId
);
id!(
    /// Place of a message in one queue, from 1.
    Seq
);
id!(
    /// Place of a batch in the order of commits, from 1 at every open.
    Ticket
);
id!(
    /// Number of an opening of the store. Raised by every open.
    Epoch
);
id!(
    /// Number of a frame of the log, from 1. Rises by one within a segment; a number that was once written, whole or
    /// torn, is not used again.
    FrameNo
);
id!(
    /// Place of a log segment in the order of all log segments, from 1. Never reused, though files are.
    SegmentNo
);
id!(
    /// Number in the name of a file. Never used for two files that were listed in the manifest.
    FileId
);
id!(
    /// Number of a manifest edit, from 1, over all rewrites.
    EditNo
);
