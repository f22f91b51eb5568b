//! Skills, published and installed.

mod hostile;
mod install;
mod place;
mod publish;
