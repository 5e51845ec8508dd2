// The memory of the simulated GPU: blocks that hold the keys and values of a fixed number of tokens each, shared by all
// sequences with the same prefix. Used by the scheduler alone. A block that no sequence refers to stays findable by its
// hash until it is needed for something else, the least recently used first.

export interface Block {
  /** Chained over everything before it; null while it is not full, or when another block has the same content. */
  hash: bigint | null;
  references: number;
  previous: Block | null;
  next: Block | null;
}

export interface KvBlocks {
  readonly total: number;
  /** Blocks that a sequence refers to. */
  used(): number;
  /** The cached blocks from the start on, at most `max`: up to the first hash that is not there. Takes nothing. */
  find(hashOf: (index: number) => bigint, max: number): Block[];
  /** Takes the found blocks and `fresh` new ones; null, and nothing is taken, where there are not so many. */
  take(found: readonly Block[], fresh: number): Block[] | null;
  /** The block is full, and what it holds has this hash from now on. */
  fill(block: Block, hash: bigint): void;
  /** Gives back what take() gave, in its order. */
  release(blocks: readonly Block[]): void;
  /** Forgets all contents; false, and nothing happens, while a block is in use. */
  forget(): boolean;
}

export function createKvBlocks(total: number): KvBlocks {
  const byHash = new Map<bigint, Block>();
  const free = createFreeList();
  let made = 0;
  let used = 0;

  const takeFresh = (): Block => {
    // A block that was never used first, so that nothing is forgotten while there is room.
    const block = made < total ? null : free.shift();
    if (block === null) made++;
    else if (block.hash !== null) byHash.delete(block.hash);
    used++;
    return { hash: null, references: 1, previous: null, next: null };
  };

  return {
    total,
    used: () => used,
    find(hashOf, max) {
      const found: Block[] = [];
      while (found.length < max) {
        const block = byHash.get(hashOf(found.length));
        if (block === undefined) break;
        found.push(block);
      }
      return found;
    },
    take(found, fresh) {
      const revived = found.reduce((sum, block) => sum + (block.references === 0 ? 1 : 0), 0);
      if (used + revived + fresh > total) return null;
      for (const block of found) {
        if (block.references++ > 0) continue;
        free.remove(block);
        used++;
      }
      return [...found, ...Array.from({ length: fresh }, takeFresh)];
    },
    fill(block, hash) {
      if (byHash.has(hash)) return;
      block.hash = hash;
      byHash.set(hash, block);
    },
    release(blocks) {
      // From the end: of one sequence the blocks that fewer others share are taken first.
      for (const block of blocks.toReversed()) {
        if (--block.references > 0) continue;
        used--;
        if (block.hash === null) free.unshift(block);
        else free.push(block);
      }
    },
    forget() {
      if (used > 0) return false;
      byHash.clear();
      free.clear();
      made = 0;
      return true;
    },
  };
}

/** Unreferenced blocks, the least recently used first: a list with links, as a hit takes one out of the middle. */
function createFreeList() {
  const head: Block = { hash: null, references: 0, previous: null, next: null };
  const tail: Block = { hash: null, references: 0, previous: head, next: null };
  head.next = tail;
  const insertAfter = (left: Block, block: Block): void => {
    const right = left.next;
    block.previous = left;
    block.next = right;
    left.next = block;
    if (right !== null) right.previous = block;
  };
  const remove = (block: Block): void => {
    if (block.previous !== null) block.previous.next = block.next;
    if (block.next !== null) block.next.previous = block.previous;
    block.previous = null;
    block.next = null;
  };
  return {
    remove,
    push: (block: Block) => insertAfter(tail.previous ?? head, block),
    unshift: (block: Block) => insertAfter(head, block),
    shift(): Block | null {
      const first = head.next;
      if (first === null || first === tail) return null;
      remove(first);
      return first;
    },
    clear() {
      head.next = tail;
      tail.previous = head;
    },
  };
}
