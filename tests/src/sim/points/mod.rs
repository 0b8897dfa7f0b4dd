//! Every crash point (T3). A script of some 60 operations runs once on the simulated disk, and every moment of it is kept:
//! before and after each call of the disk, and whenever the clients came to know something. Then the server is started on
//! the states that a crash at each moment may have left, and what it has is judged by what the clients knew then. Each
//! start can itself crash at any of its calls, three deep.
//!
//! A *trial* is one state that a server is started on. A state that was judged with the same knowledge before is not
//! counted again.

mod campaign;
mod losses;
mod script;
mod trial;

pub use campaign::{Depth, Plan, Report, controls, run};
