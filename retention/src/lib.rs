//! Policy and hold to plan, plan to execution, certificates, and the scheduler that runs jobs.
//!
//! Nothing of it is built yet, and nothing is ever deleted: this crate holds its place in the house and its rule of
//! imports. Not here: segments and commits (`ledger-store`), which will carry out what a plan says.
