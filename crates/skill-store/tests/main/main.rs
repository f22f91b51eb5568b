//! Skills, published and installed.

mod fixture;
mod hostile;
mod install;
mod publish;
mod send;
