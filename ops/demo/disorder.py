"""How a day really arrives: late, swapped, and more than once."""

from __future__ import annotations

from random import Random

from ops.demo.day import Day, Message, in_order

NEAR = 8
"""How far a swapped message strays; one that is late may stray to the end."""


def disorder(day: Day, seed: int, *, duplicated: float, late: float) -> list[Message]:
    """*late* of the messages come after others that happened later; *duplicated* of them come twice.

    Shape: ``len(day.messages) * (1 + duplicated)`` messages. The same seed gives the same list.
    """
    random, messages = Random(f"disorder-{seed}"), in_order(day)
    total = len(messages)
    places = {place: float(place) for place in range(total)}
    for place in random.sample(range(total), round(late * total)):
        stray = (
            random.randint(1, NEAR) if random.random() < 0.5 else random.uniform(NEAR, total - place + NEAR)
        )
        places[place] += stray + 0.5
    told = [(at, messages[place]) for place, at in places.items()]
    again = random.sample(range(total), round(duplicated * total))
    told += [(places[place] + random.expovariate(10 / total), messages[place]) for place in again]
    return [message for _, message in sorted(told, key=lambda one: one[0])]
