#include "text/jinja/scopes.h"

#include <set>

namespace ink::jinja {
namespace {

// The names of one block, as far as its statements have been read.
class Names {
 public:
  explicit Names(const Names* outer) : outer_(outer) {}

  void Parameter(Symbol name) {
    stored_.insert(name);
    known_.insert(name);
    hidden_.erase(name);
  }
  void Load(Symbol name) {
    if (!Knows(name)) known_.insert(name);
  }
  void Store(Symbol name) {
    stored_.insert(name);
    if (!known_.insert(name).second) return;
    if (outer_ == nullptr || !outer_->Knows(name)) hidden_.insert(name);
  }
  // After an if: what only some branches assign is looked up outside until then.
  void Join(std::initializer_list<const Names*> branches) {
    std::set<Symbol> stored;
    for (const Names* branch : branches)
      stored.insert(branch->stored_.begin(), branch->stored_.end());
    for (const Symbol name : stored_) stored.erase(name);
    for (const Names* branch : branches) {
      known_.insert(branch->known_.begin(), branch->known_.end());
      stored_.insert(branch->stored_.begin(), branch->stored_.end());
      hidden_.insert(branch->hidden_.begin(), branch->hidden_.end());
    }
    for (const Symbol name : stored) hidden_.erase(name);
  }
  std::vector<Symbol> Hidden() const { return {hidden_.begin(), hidden_.end()}; }

 private:
  bool Knows(Symbol name) const {
    return known_.contains(name) || (outer_ != nullptr && outer_->Knows(name));
  }

  const Names* outer_;
  std::set<Symbol> known_;
  std::set<Symbol> stored_;
  std::set<Symbol> hidden_;
};

void ReadExpr(const Expr* expr, Names* names) {
  if (expr == nullptr) return;
  if (expr->kind == ExprKind::kName) names->Load(expr->id);
  for (const ExprPtr& item : expr->items) ReadExpr(item.get(), names);
  for (const auto& keyword : expr->keywords) ReadExpr(keyword.second.get(), names);
  ReadExpr(expr->star.get(), names);
  ReadExpr(expr->star_star.get(), names);
}

void ReadTarget(const Expr& target, bool as_parameter, Names* names) {
  switch (target.kind) {
    case ExprKind::kName:
      if (as_parameter) {
        names->Parameter(target.id);
      } else {
        names->Store(target.id);
      }
      return;
    case ExprKind::kNamespace:
      names->Load(target.id);
      return;
    default:
      for (const ExprPtr& item : target.items) ReadTarget(*item, as_parameter, names);
  }
}

void ReadBody(const Body& body, Names* names);

// One branch of an if and what follows it; the test has been read.
void ReadIf(const Stmt& stmt, Names* names) {
  ReadExpr(stmt.exprs[0].get(), names);
  Names first = *names;
  ReadBody(stmt.bodies[0], &first);
  Names others = *names;
  for (size_t i = 1; i < stmt.exprs.size(); ++i) {
    // Each elif is an if of its own, without else.
    ReadExpr(stmt.exprs[i].get(), &others);
    Names branch = others;
    ReadBody(stmt.bodies[i], &branch);
    others.Join({&branch});
  }
  Names otherwise = *names;
  if (stmt.bodies.size() > stmt.exprs.size()) ReadBody(stmt.bodies.back(), &otherwise);
  names->Join({&first, &others, &otherwise});
}

// What a statement does to the names of the block it stands in; blocks within it are not read.
void ReadStmt(const Stmt& stmt, Names* names) {
  switch (stmt.kind) {
    case StmtKind::kIf:
      ReadIf(stmt, names);
      return;
    case StmtKind::kFor:
      ReadExpr(stmt.exprs[0].get(), names);
      return;
    case StmtKind::kSet:
      ReadExpr(stmt.exprs[0].get(), names);
      ReadTarget(*stmt.target, false, names);
      return;
    case StmtKind::kSetBlock:
      ReadTarget(*stmt.target, false, names);
      return;
    case StmtKind::kMacro:
      names->Store(stmt.symbol);
      return;
    case StmtKind::kTransparent:
      ReadBody(stmt.bodies[0], names);
      return;
    case StmtKind::kPrint:
    case StmtKind::kCallBlock:
    case StmtKind::kFilterBlock:
    case StmtKind::kWith:
      for (const ExprPtr& expr : stmt.exprs) ReadExpr(expr.get(), names);
      return;
    case StmtKind::kData:
    case StmtKind::kScope:
    case StmtKind::kBreak:
    case StmtKind::kContinue:
    case StmtKind::kUnsupported:
      return;
  }
}

void ReadBody(const Body& body, Names* names) {
  for (const auto& stmt : body) ReadStmt(*stmt, names);
}

void Descend(const Body& body, const Names& names, const Template& tree);

// A block with its own names: `names` knows its parameters already.
void Enter(const Body& body, Names* names, std::vector<Symbol>* hidden, const Template& tree) {
  ReadBody(body, names);
  *hidden = names->Hidden();
  Descend(body, *names, tree);
}

void EnterMacro(MacroDefinition* macro, const Names& outer, const Template& tree) {
  Names names(&outer);
  for (const Parameter& parameter : macro->parameters) names.Parameter(parameter.symbol);
  for (const Parameter& parameter : macro->parameters) {
    ReadExpr(parameter.default_value.get(), &names);
  }
  if (macro->uses_caller) names.Parameter(tree.caller);
  if (macro->uses_varargs) names.Parameter(tree.varargs);
  if (macro->uses_kwargs) names.Parameter(tree.kwargs);
  Enter(macro->body, &names, &macro->hidden, tree);
}

// Finds the blocks within `body`, whose own names are `outer`.
void Descend(const Body& body, const Names& outer, const Template& tree) {
  for (const auto& stmt : body) {
    stmt->hidden.resize(stmt->bodies.size());
    switch (stmt->kind) {
      case StmtKind::kIf:
      case StmtKind::kTransparent:
        for (const Body& branch : stmt->bodies) Descend(branch, outer, tree);
        break;
      case StmtKind::kFor: {
        Names loop(&outer);
        ReadTarget(*stmt->target, true, &loop);
        loop.Parameter(tree.loop);
        Enter(stmt->bodies[0], &loop, &stmt->hidden[0], tree);
        if (stmt->bodies.size() > 1) {
          Names otherwise(&outer);
          Enter(stmt->bodies[1], &otherwise, &stmt->hidden[1], tree);
        }
        break;
      }
      case StmtKind::kMacro:
      case StmtKind::kCallBlock:
        EnterMacro(stmt->macro.get(), outer, tree);
        break;
      case StmtKind::kSetBlock:
      case StmtKind::kFilterBlock: {
        Names names(&outer);
        Enter(stmt->bodies[0], &names, &stmt->hidden[0], tree);
        break;
      }
      case StmtKind::kWith: {
        Names names(&outer);
        for (const ExprPtr& target : stmt->targets) ReadTarget(*target, true, &names);
        Enter(stmt->bodies[0], &names, &stmt->hidden[0], tree);
        break;
      }
      case StmtKind::kScope: {
        // A {% block %} is compiled apart from the template around it.
        Names names(stmt->isolated ? nullptr : &outer);
        Enter(stmt->bodies[0], &names, &stmt->hidden[0], tree);
        break;
      }
      default:
        break;
    }
  }
}

}  // namespace

void FindHiddenNames(Template* tree) {
  Names names(nullptr);
  Enter(tree->body, &names, &tree->hidden, *tree);
}

}  // namespace ink::jinja
