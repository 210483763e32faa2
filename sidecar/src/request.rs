//! A request's way: cleanse → credential → decide → exchange → forward → hand back; any stage's error → rescue.

pub mod head;
