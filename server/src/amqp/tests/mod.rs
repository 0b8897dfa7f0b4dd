//! Sessions as conversations, the codec, and a few real sockets.

mod channels;
mod closing;
mod codec;
mod consuming;
mod corpus;
mod handshake;
mod publishing;
mod sockets;
mod split;
mod talk;
mod times;
