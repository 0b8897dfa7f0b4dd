//! Whatever a client or an operator gets wrong: a code, a reason, a sentence, and everybody else goes on.

mod calls;
mod disk;
mod raw;
mod startup;
