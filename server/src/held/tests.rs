//! Guards against publishes that pass each other on their way.
