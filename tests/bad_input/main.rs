//! What the command says and does when it is given what it cannot use: options, devices, labels, ports, peers, damaged
//! data, full devices, signals. Every test runs the real binary in a folder of its own.

mod bench;
mod checkouts;
mod command_line;
mod devices;
mod labels;
mod load;
mod peers;
mod places;
mod process;
mod repair;
mod signals;
