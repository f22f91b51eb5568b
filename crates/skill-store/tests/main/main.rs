//! Skills, published and installed.

mod archive;
mod cached;
mod cancel;
mod corpus;
mod cost;
mod fixture;
mod history;
mod hostile;
mod install;
mod locked;
mod publish;
mod race;
mod reference;
mod secrets;
mod send;
mod signer;
mod writers;
