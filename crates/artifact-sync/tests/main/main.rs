//! A mirror and its stores.

mod faults;
mod faulty;
mod keys;
mod place;
mod restore;
mod s3;
mod sync;
