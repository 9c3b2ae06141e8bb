//! Names, things and places; the held-out ones appear in the test splits only.

pub(super) struct Words {
    pub train: &'static [&'static str],
    pub held_out: &'static [&'static str],
}

pub(super) static NAMES: Words = Words {
    train: &[
        "Anna", "Ben", "Carla", "David", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas",
        "Kira", "Liam", "Maya", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tara", "Uma", "Victor",
        "Wendy", "Yusuf", "Zoe", "Aiko", "Bruno", "Chen", "Dalia", "Emil", "Fatima", "Gustav",
        "Hana", "Ivan", "Jade", "Karim", "Lucia", "Marco", "Nina", "Oscar", "Priya", "Tom", "Sara",
        "Omar", "Julia", "Peter", "Mary", "John", "Alice", "Bob", "Emma",
    ],
    held_out: &[
        "Ravi", "Selma", "Theo", "Vera", "Walter", "Xenia", "Amir", "Clara", "Dmitri", "Lena",
    ],
};

pub(super) static THINGS: Words = Words {
    train: &[
        "apples",
        "books",
        "marbles",
        "pencils",
        "stickers",
        "coins",
        "tickets",
        "cards",
        "cookies",
        "stamps",
        "oranges",
        "bottles",
        "boxes",
        "chairs",
        "candles",
        "shirts",
        "cups",
        "toys",
        "flowers",
        "eggs",
        "bricks",
        "tiles",
        "screws",
        "plates",
        "bags",
        "pens",
        "bananas",
        "notebooks",
        "lamps",
        "shells",
        "seeds",
        "ribbons",
        "buttons",
        "beads",
        "muffins",
        "batteries",
        "posters",
        "magnets",
        "balloons",
        "spoons",
    ],
    held_out: &[
        "lemons", "keys", "socks", "bolts", "napkins", "pebbles", "badges", "pears", "ropes",
        "mugs",
    ],
};

pub(super) static PLACES: Words = Words {
    train: &[
        "shop",
        "bakery",
        "library",
        "school",
        "warehouse",
        "market",
        "factory",
        "museum",
        "office",
        "farm",
        "garage",
        "hotel",
        "store",
        "club",
        "kiosk",
        "cafe",
        "studio",
        "depot",
        "clinic",
        "workshop",
    ],
    held_out: &["theatre", "nursery", "brewery", "pharmacy", "gallery"],
};
