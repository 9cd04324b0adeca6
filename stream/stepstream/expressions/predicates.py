"""Temporary stand-in."""
import functools
from dataclasses import dataclass
import celpy
from stepstream.expressions.errors import EvaluationError, ExpressionError
MISSING=object()
def check(source, variables):
    try: celpy.Environment().compile(source)
    except Exception as e: raise ExpressionError(source,1,1,str(e)) from None
@functools.lru_cache(1000)
def _prog(source):
    env=celpy.Environment(); return env.program(env.compile(source.replace("async.","async_.")))
def holds(source, bindings):
    try: r=_prog(source).evaluate({k.replace("async","async_"):celpy.json_to_cel(v) for k,v in bindings.items()})
    except Exception as e: raise EvaluationError(str(e)) from None
    return bool(r)
@dataclass(frozen=True)
class Equality:
    path:str; value:object
@dataclass(frozen=True)
class Frozen:
    equalities:tuple; residual:object; bindings:dict; never:bool
def freeze(source,event): return Frozen((),source,{"event":event},False)
def lookup(root,path):
    for p in path.split("."):
        if not isinstance(root,dict) or p not in root: return MISSING
        root=root[p]
    return root
def index_key(v):
    if isinstance(v,bool): return "b"+str(v)
    if isinstance(v,str): return "s"+v
    if isinstance(v,(int,float)): return "n"+str(int(v) if v==int(v) else v)
    return None
def freeze_match(path,event):
    v=lookup(event,path)
    if index_key(v) is None: return Frozen((),None,{},True)
    return Frozen((Equality(path,v),),None,{},False)
def check_path(path): pass
