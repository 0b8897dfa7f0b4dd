//! The offline tools on stores that are sound, and on stores that are not.

mod damage;
mod matrix;
mod repairs;
mod rig;
mod settled;
