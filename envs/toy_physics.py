"""The rules of ToyGame: whole-number physics at 60 ticks a second, so that every play is exactly repeatable."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from worldgen.envs.toy_level import ROWS, SUB, TILE, WALKER_HEIGHT, WALKER_WIDTH, Level

TICK_RATE = 60
TIME_LIMIT = 40 * TICK_RATE
ENDING_TICKS = 36  # the picture closes around the player after death or at the flag
WIDTH, HEIGHT = 8 * SUB, 13 * SUB  # the player's box

# Speeds in 1/256 pixel a tick, accelerations in 1/256 pixel a tick a tick.
RUN_SPEED, RUN_PUSH, BRAKE = 360, 24, 30
JUMP_SPEED, BOUNCE_SPEED, HIT_SPEED, PIT_SPEED, FALL_SPEED = 870, 720, 620, 1150, 960
GRAVITY, GRAVITY_CUT = 41, 110  # while jump is held on the way up, otherwise the jump is cut short
GRAVITY_DOWN = 46
COYOTE_TICKS, BUFFER_TICKS = 5, 6  # a jump is still granted so long after leaving an edge, before landing

PLAYING, DEAD, WON = range(3)
REWARDS = {"coin": 1.0, "stomp": 1.0, "flag": 5.0}  # events that pay
TURN = (0, -1, 1, 0, -1, 1)  # direction of each action; actions 3, 4 and 5 hold jump


@dataclass(slots=True)
class PlayState:
    """Everything that changes during a play. Positions are the top left of the player's box, in 1/256 pixel."""

    x: int
    y: int
    vx: int = 0
    vy: int = 0
    facing: int = 1
    on_ground: bool = True
    is_jump_held: bool = False
    coyote: int = 0  # ticks left in which a jump is still granted
    buffer: int = 0  # ticks left in which a jump is still wanted
    tick: int = 0
    outcome: int = PLAYING
    ended_at: int = 0  # tick of the outcome
    dust_at: int = -999  # tick and place of the last take-off or landing
    dust_x: int = 0
    dust_y: int = 0
    taken: dict[int, int] = field(default_factory=dict)  # coin -> tick
    stomped: dict[int, int] = field(default_factory=dict)  # walker -> tick

    @classmethod
    def at_start(cls, level: Level) -> PlayState:
        x, feet = level.start
        return cls(x * SUB, feet * SUB - HEIGHT)

    def copy(self) -> PlayState:
        return replace(self, taken=self.taken.copy(), stomped=self.stomped.copy())

    @property
    def is_over(self) -> bool:
        """Dead or at the flag, and the closing picture has been shown."""
        return self.outcome != PLAYING and self.tick - self.ended_at >= ENDING_TICKS


def advance(level: Level, s: PlayState, action: int) -> list[str]:
    """One tick, in place -> the events in it: jump, land, coin, stomp, death, flag."""
    events: list[str] = []
    s.tick += 1
    if s.outcome != PLAYING:
        _end(level, s)
        return events
    _run(level, s, TURN[action])
    _jump(s, action >= 3, events)
    _fall(level, s, events)
    _collect(level, s, events)
    _meet_walkers(level, s, events)
    if s.outcome == PLAYING and s.y > ROWS * TILE * SUB:
        _die(s, events, PIT_SPEED)
    if s.outcome == PLAYING and s.x + WIDTH // 2 >= level.flag[0] * SUB:
        s.outcome, s.ended_at = WON, s.tick
        events.append("flag")
    return events


def _end(level: Level, s: PlayState) -> None:
    if s.outcome == WON:
        _run(level, s, 0)
        _fall(level, s, [])
    else:
        s.vy = min(s.vy + GRAVITY, FALL_SPEED)
        s.y += s.vy


def _run(level: Level, s: PlayState, turn: int) -> None:
    if turn:
        s.facing = turn
        s.vx = min(s.vx + RUN_PUSH, RUN_SPEED) if turn > 0 else max(s.vx - RUN_PUSH, -RUN_SPEED)
    else:
        s.vx = max(s.vx - BRAKE, 0) if s.vx > 0 else min(s.vx + BRAKE, 0)
    if not s.vx:
        return
    s.x = min(max(s.x + s.vx, 0), level.width * SUB - WIDTH)
    column = (s.x + WIDTH - 1 if s.vx > 0 else s.x) // (TILE * SUB)
    top, bottom = s.y // (TILE * SUB), (s.y + HEIGHT - 1) // (TILE * SUB)
    for row in range(max(top, 0), min(bottom, ROWS - 1) + 1):
        if level.solid[row][column]:
            s.x = column * TILE * SUB - WIDTH if s.vx > 0 else (column + 1) * TILE * SUB
            s.vx = 0
            return


def _jump(s: PlayState, is_held: bool, events: list[str]) -> None:
    s.buffer = BUFFER_TICKS if is_held and not s.is_jump_held else max(s.buffer - 1, 0)
    s.coyote = COYOTE_TICKS if s.on_ground else max(s.coyote - 1, 0)
    s.is_jump_held = is_held
    if s.buffer and s.coyote:
        s.vy, s.buffer, s.coyote, s.on_ground = -JUMP_SPEED, 0, 0, False
        _raise_dust(s)
        events.append("jump")
    gravity = GRAVITY_DOWN if s.vy >= 0 else GRAVITY if is_held else GRAVITY_CUT
    s.vy = min(s.vy + gravity, FALL_SPEED)


def _fall(level: Level, s: PlayState, events: list[str]) -> None:
    if s.outcome == WON:  # nobody holds jump any more
        s.vy = min(s.vy + GRAVITY_DOWN, FALL_SPEED)
    s.y += s.vy
    was_on_ground, s.on_ground = s.on_ground, False
    row = (s.y + HEIGHT - 1 if s.vy > 0 else s.y) // (TILE * SUB)
    if not 0 <= row < ROWS:
        return
    line = level.solid[row]
    if line[s.x // (TILE * SUB)] or line[(s.x + WIDTH - 1) // (TILE * SUB)]:
        if s.vy > 0:
            s.y = row * TILE * SUB - HEIGHT
            s.on_ground = True
            if not was_on_ground and s.vy > 200:
                _raise_dust(s)
                events.append("land")
        else:
            s.y = (row + 1) * TILE * SUB
        s.vy = 0


def _raise_dust(s: PlayState) -> None:
    s.dust_at, s.dust_x, s.dust_y = s.tick, s.x + WIDTH // 2, s.y + HEIGHT


def _collect(level: Level, s: PlayState, events: list[str]) -> None:
    for i in level.coins_in_column[(s.x + WIDTH // 2) // (TILE * SUB)]:
        x, y = level.coins[i]
        if (
            i not in s.taken
            and s.x - 4 * SUB < x * SUB < s.x + WIDTH + 4 * SUB
            and s.y - 4 * SUB < y * SUB < s.y + HEIGHT + 4 * SUB
        ):
            s.taken[i] = s.tick
            events.append("coin")


def _meet_walkers(level: Level, s: PlayState, events: list[str]) -> None:
    first, last = s.x // (TILE * SUB), (s.x + WIDTH - 1) // (TILE * SUB)
    near = level.walkers_in_column[first]
    for i in near if first == last else {*near, *level.walkers_in_column[last]}:
        if i in s.stomped:
            continue
        walker = level.walkers[i]
        x, _ = walker.position(s.tick)
        margin = SUB  # a graze is forgiven
        if not (x + margin < s.x + WIDTH and s.x < x + WALKER_WIDTH * SUB - margin):
            continue
        feet, top = s.y + HEIGHT, walker.y * SUB
        if feet <= top + margin or s.y >= top + WALKER_HEIGHT * SUB:
            continue
        if s.vy > 0 and feet - s.vy <= top + 4 * SUB:
            s.stomped[i] = s.tick
            s.vy, s.on_ground = -BOUNCE_SPEED, False
            events.append("stomp")
        else:
            _die(s, events, HIT_SPEED)
            return


def _die(s: PlayState, events: list[str], speed: int) -> None:
    s.outcome, s.ended_at = DEAD, s.tick
    s.vx, s.vy, s.on_ground = 0, -speed, False
    events.append("death")
