import sys; sys.path.insert(0,'/work/main/tests')
from oracle import ToyFork
from conftest import *
from worldgen.training.evaluate import evaluate
def test_a(tiny_world, toy_recordings):
    f=evaluate(tiny_world, toy_recordings, clips=5, horizons=(1,4,8), make_game=ToyFork, say=print)
    print(f['notes'], f['counterfactual'])
    assert 0
