//! Integration tests of mirrors and stores.

mod access;
mod backends;
mod crash;
mod differential;
mod events;
mod faults;
mod garbage;
mod history;
mod ignored;
mod keys;
mod listing;
mod machine;
mod memory;
mod model;
mod multipart;
mod owners;
mod places;
mod power;
mod racy;
mod restore;
mod rolled_back;
mod s3;
mod shared_store;
mod stopped;
mod sync;
mod version_0_1;
