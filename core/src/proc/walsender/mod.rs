//! Its place is kept until it lands.
#![allow(missing_docs)]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WalSender;
impl WalSender {
    pub fn new(_b: crate::sys::Become) -> Self {
        Self
    }
    pub fn step(&mut self, _cx: &mut crate::sys::Cx<'_>) -> crate::call::Yield {
        crate::call::Yield::Wait(crate::call::Wait::default())
    }
}
