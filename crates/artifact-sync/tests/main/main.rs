//! A mirror and its stores.

mod crash;
mod faults;
mod faulty;
mod keys;
mod model;
mod place;
mod restore;
mod s3;
mod sync;
