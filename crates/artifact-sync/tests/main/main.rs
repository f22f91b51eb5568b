//! A mirror and its stores.

mod backends;
mod crash;
mod differential;
mod events;
mod faults;
mod faulty;
mod keys;
mod memory;
mod model;
mod place;
mod restore;
mod s3;
mod sync;
