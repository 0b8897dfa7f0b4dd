//! Check, repair and inspect beyond single damage.
